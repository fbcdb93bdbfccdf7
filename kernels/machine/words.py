"""Words stand for ring elements while a local step is turned into code: operators write instructions.

A local step is a function of arrays. Called with words, it writes the body of a loop that computes as many
elements at once as a vector has. The operators mean what numpy's mean: they wrap, and a type that is signed
shifts right as a signed number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ditto_kernels.machine.ir_text import Function

_COMPARED = {"lt": ("slt", "ult"), "ge": ("sge", "uge"), "gt": ("sgt", "ugt"), "le": ("sle", "ule")}


def element_type(dtype: np.dtype[Any]) -> str:
    """Return the LLVM type of one element. A bool is one bit in registers and a byte in memory."""
    return "i1" if dtype.kind == "b" else f"i{8 * dtype.itemsize}"


class Code:
    """The loop body that is being written, `lanes` elements at a time."""

    def __init__(self, function: Function, lanes: int) -> None:
        self.function, self.lanes = function, lanes

    def kind(self, dtype: np.dtype[Any]) -> str:
        return f"<{self.lanes} x {element_type(dtype)}>"

    def constant(self, value: int, dtype: np.dtype[Any]) -> Word:
        """Return a word of equal elements. Raises OverflowError if the type does not hold the value."""
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if not low <= value <= high:
            raise OverflowError(f"{value} does not fit {dtype}")
        lane = f"{element_type(dtype)} {value}" if dtype.kind != "b" else f"i1 {'true' if value else 'false'}"
        return Word(self, f"<{', '.join([lane] * self.lanes)}>", dtype)

    def load(self, dtype: np.dtype[Any], pointer: str) -> Word:
        """Read elements that lie side by side."""
        held = "i8" if dtype.kind == "b" else element_type(dtype)
        value = self.function.load(f"<{self.lanes} x {held}>", pointer)
        if dtype.kind == "b":
            value = self.function.value(f"trunc <{self.lanes} x i8> {value} to {self.kind(dtype)}")
        return Word(self, value, dtype)

    def load_one(self, dtype: np.dtype[Any], pointer: str) -> Word:
        """Read one element that serves all lanes."""
        held = "i8" if dtype.kind == "b" else element_type(dtype)
        value = self.function.load(held, pointer)
        if dtype.kind == "b":
            value = self.function.value(f"trunc i8 {value} to i1")
        return Word(self, self.function.spread(element_type(dtype), value, self.lanes), dtype)

    def store(self, word: Word, pointer: str) -> None:
        if word.dtype.kind == "b":
            word = word.astype(np.uint8)
        self.function.store(self.kind(word.dtype), word.name, pointer)


class Word:
    """So many ring elements of one type as the loop computes at once."""

    __array_ufunc__ = None  # A numpy number on the left leaves the operator to the word.
    __hash__ = None  # type: ignore[assignment]  # The operator == compares elements.

    def __init__(self, code: Code, name: str, dtype: np.dtype[Any]) -> None:
        self.code, self.name, self.dtype = code, name, dtype

    def _new(self, text: str, dtype: np.dtype[Any]) -> Word:
        return Word(self.code, self.code.function.value(text), dtype)

    def _like(self, other: Any) -> Word:
        """Return an operand as a word of the same type. Raises TypeError for a word of another type."""
        if isinstance(other, Word):
            if other.dtype != self.dtype:
                raise TypeError(f"{self.dtype} and {other.dtype} in one operation: cast one of them first")
            return other
        return self.code.constant(int(other), self.dtype)

    def _binary(self, operation: str, other: Any) -> Word:
        kind = self.code.kind(self.dtype)
        return self._new(f"{operation} {kind} {self.name}, {self._like(other).name}", self.dtype)

    def _compare(self, relation: str, other: Any) -> Word:
        if relation in _COMPARED:
            relation = _COMPARED[relation][self.dtype.kind != "i"]
        kind = self.code.kind(self.dtype)
        return self._new(f"icmp {relation} {kind} {self.name}, {self._like(other).name}", np.dtype(bool))

    def __add__(self, other: Any) -> Word:
        return self._binary("add", other)

    def __sub__(self, other: Any) -> Word:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> Word:
        return self._like(other) - self

    def __mul__(self, other: Any) -> Word:
        return self._binary("mul", other)

    def __and__(self, other: Any) -> Word:
        return self._binary("and", other)

    def __or__(self, other: Any) -> Word:
        return self._binary("or", other)

    def __xor__(self, other: Any) -> Word:
        return self._binary("xor", other)

    __radd__, __rmul__, __rand__, __ror__, __rxor__ = __add__, __mul__, __and__, __or__, __xor__

    def __lshift__(self, bits: Any) -> Word:
        return self._binary("shl", bits)

    def __rshift__(self, bits: Any) -> Word:
        return self._binary("ashr" if self.dtype.kind == "i" else "lshr", bits)

    def __neg__(self) -> Word:
        return self.code.constant(0, self.dtype) - self

    def __invert__(self) -> Word:
        if self.dtype.kind == "b":
            return self ^ True
        return self ^ self.code.constant(-1, np.dtype(f"int{8 * self.dtype.itemsize}")).view(self.dtype)

    def __lt__(self, other: Any) -> Word:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Word:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> Word:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Word:
        return self._compare("ge", other)

    def __eq__(self, other: Any) -> Word:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: Any) -> Word:  # type: ignore[override]
        return self._compare("ne", other)

    def astype(self, dtype: Any) -> Word:
        """Return the elements in another type, modulo its ring. Signed ones are extended by their sign."""
        target = np.dtype(dtype)
        kinds = self.code.kind(self.dtype), self.code.kind(target)
        if kinds[0] == kinds[1]:
            return Word(self.code, self.name, target)
        if target.kind == "b":
            return self != 0
        wider = target.itemsize > self.dtype.itemsize or self.dtype.kind == "b"
        change = ("sext" if self.dtype.kind == "i" else "zext") if wider else "trunc"
        return self._new(f"{change} {kinds[0]} {self.name} to {kinds[1]}", target)

    def view(self, dtype: Any) -> Word:
        """Read the same bits as another type of their size."""
        target = np.dtype(dtype)
        if target.itemsize != self.dtype.itemsize or "b" in target.kind + self.dtype.kind:
            raise TypeError(f"{self.dtype} cannot be read as {target} in a loop")
        return Word(self.code, self.name, target)


class WordRows:
    """An operand with a leading axis, of which a local step reads rows by number."""

    def __init__(self, code: Code, dtype: np.dtype[Any], pointers: list[str]) -> None:
        self._code, self.dtype, self._pointers = code, dtype, pointers
        self._read: dict[int, Word] = {}

    def __len__(self) -> int:
        return len(self._pointers)

    def __getitem__(self, place: int) -> Word:
        index = range(len(self))[place]
        if index not in self._read:
            self._read[index] = self._code.load(self.dtype, self._pointers[index])
        return self._read[index]

    def __iter__(self) -> Iterator[Word]:
        return (self[place] for place in range(len(self)))


class WordTable:
    """A table of public numbers, which a local step reads at computed places, or rows of such tables.

    It has `size` entries, or as many in each row. A place beyond them gives the last one, so that no loop
    reads memory of others whatever numbers it is called with.
    """

    def __init__(self, code: Code, dtype: np.dtype[Any], pointers: list[str], size: int) -> None:
        self._code, self._dtype, self._pointers, self._size = code, dtype, pointers, size

    def __len__(self) -> int:
        return len(self._pointers)

    def __getitem__(self, row: int) -> WordTable:
        return WordTable(self._code, self._dtype, [self._pointers[row]], self._size)

    def at(self, index: Word) -> Word:
        """Return the entries at those places."""
        f, lanes, kind = self._code.function, self._code.lanes, self._code.kind(self._dtype)
        element, wide = element_type(self._dtype), self._code.kind(np.dtype(np.int64))
        last = self._code.constant(self._size - 1, np.dtype(np.int64)).name
        # A shift by too many bits has no fixed value until it is frozen.
        places = f.value(f"freeze {wide} {index.astype(np.int64).name}")
        least = f"@llvm.umin.v{lanes}i64"
        f.needs(f"declare {wide} {least}({wide}, {wide})")
        places = f.value(f"call {wide} {least}({wide} {places}, {wide} {last})")
        pointers = f.value(f"getelementptr {element}, ptr {self._pointers[0]}, {wide} {places}")
        every = f"<{', '.join(['i1 true'] * lanes)}>"
        name = f"@llvm.masked.gather.v{lanes}{element}.v{lanes}p0"
        f.needs(f"declare {kind} {name}(<{lanes} x ptr>, i32, <{lanes} x i1>, {kind})")
        entry = f.value(
            f"call {kind} {name}(<{lanes} x ptr> {pointers}, i32 {self._dtype.itemsize}, "
            f"<{lanes} x i1> {every}, {kind} poison)"
        )
        return Word(self._code, entry, self._dtype)


def entries(table: Any, index: Any) -> Any:
    """Return the entries of a table at those places, in a local step. All places must lie in the table."""
    return table.at(index) if isinstance(table, WordTable) else np.take(table, index)
