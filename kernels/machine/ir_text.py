"""Write functions of LLVM IR as text: values get numbers, and loops get their blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

Index = str | int  # the name of a 64-bit value, or a constant


class Symbol(NamedTuple):
    """A function that Python calls, with so many pointers and then so many 64-bit integers."""

    name: str
    pointers: int
    integers: int


class Function:
    """The text of one function, written line by line.

    parameters: (type, name) of each one. `local` keeps the function inside its module.
    """

    def __init__(self, name: str, parameters: Sequence[tuple[str, str]], local: bool = False) -> None:
        listed = ", ".join(f"{kind} %{parameter}" for kind, parameter in parameters)
        self._head = f"define {'internal ' if local else ''}void @{name}({listed}) {{"
        self._lines = ["start:"]
        self._block = "start"
        self._names = 0
        self.declared: dict[str, None] = {}  # in the order in which they were first needed

    def needs(self, declaration: str) -> None:
        """Note that the module has to declare an intrinsic function."""
        self.declared[declaration] = None

    @property
    def length(self) -> int:
        """The number of lines so far."""
        return len(self._lines)

    def text(self) -> str:
        """Return the whole function, which ends here."""
        return "\n".join([self._head, *self._lines, "  ret void", "}"])

    def line(self, text: str) -> None:
        self._lines.append(f"  {text}")

    def value(self, text: str) -> str:
        """Write an instruction and return the name of its result."""
        self._names += 1
        self.line(f"%v{self._names} = {text}")
        return f"%v{self._names}"

    def add(self, x: Index, y: Index) -> str:
        return self.value(f"add i64 {x}, {y}")

    def subtract(self, x: Index, y: Index) -> str:
        return self.value(f"sub i64 {x}, {y}")

    def multiply(self, x: Index, y: Index) -> str:
        return self.value(f"mul i64 {x}, {y}")

    def least(self, x: Index, y: Index) -> str:
        return self.value(f"call i64 @llvm.smin.i64(i64 {x}, i64 {y})")

    def multiple_below(self, x: Index, of: int) -> str:
        """Return the largest multiple of a power of two that is not larger than x."""
        return self.value(f"and i64 {x}, {-of}")

    def choose(self, condition: str, x: Index, y: Index) -> str:
        return self.value(f"select i1 {condition}, i64 {x}, i64 {y}")

    def spread(self, element: str, value: str, lanes: int) -> str:
        """Return a vector of equal elements."""
        kind = f"<{lanes} x {element}>"
        first = self.value(f"insertelement {kind} poison, {element} {value}, i32 0")
        return self.value(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, kind: str, x: str, y: str, places: Sequence[int]) -> str:
        """Return a vector of elements of x, and behind them of y, by place."""
        mask = ", ".join(f"i32 {place}" for place in places)
        return self.value(f"shufflevector {kind} {x}, {kind} {y}, <{len(places)} x i32> <{mask}>")

    def divide(self, x: Index, y: Index) -> tuple[str, str]:
        """Return the quotient and the remainder of two numbers that are not negative."""
        return self.value(f"udiv i64 {x}, {y}"), self.value(f"urem i64 {x}, {y}")

    def at(self, kind: str, pointer: str, index: Index) -> str:
        """Return the address of an element of that type."""
        return self.value(f"getelementptr {kind}, ptr {pointer}, i64 {index}")

    def load(self, kind: str, pointer: str, align: int = 1) -> str:
        return self.value(f"load {kind}, ptr {pointer}, align {align}")

    def store(self, kind: str, value: str, pointer: str, align: int = 1) -> None:
        self.line(f"store {kind} {value}, ptr {pointer}, align {align}")

    def label(self) -> str:
        self._names += 1
        return f"b{self._names}"

    def begin(self, label: str) -> None:
        """Begin a block."""
        self._lines.append(f"{label}:")
        self._block = label

    @contextmanager
    def loop(self, first: Index, stop: Index, step: Index = 1) -> Iterator[str]:
        """Write the body of a loop. Yields its counter, which is the next one to come after the loop."""
        head, body, after = self.label(), self.label(), self.label()
        before, end = self._block, self.label()
        self.line(f"br label %{head}")
        self.begin(head)
        self._names += 1
        counter, following = f"%i{self._names}", f"%n{self._names}"
        self.line(f"{counter} = phi i64 [ {first}, %{before} ], [ {following}, %{end} ]")
        inside = self.value(f"icmp slt i64 {counter}, {stop}")
        self.line(f"br i1 {inside}, label %{body}, label %{after}")
        self.begin(body)
        yield counter
        self.line(f"br label %{end}")
        self.begin(end)
        self.line(f"{following} = add i64 {counter}, {step}")
        self.line(f"br label %{head}")
        self.begin(after)

    @contextmanager
    def accumulate(self, kind: str, count: int, terms: Index) -> Iterator[tuple[str, list[str], list[str]]]:
        """Write the body of a loop over at least one term, with sums that start at zero.

        Yields the counter, the sums so far, and the list of names that the body replaces by its new sums. The
        list is what the sums are after the loop.
        """
        body, after, end = self.label(), self.label(), self.label()
        before = self._block
        self.line(f"br label %{body}")
        self.begin(body)
        self._names += 1
        counter = f"%i{self._names}"
        place = len(self._lines)
        sums = [f"%s{self._names}.{each}" for each in range(count)]
        new = [*sums]
        yield counter, sums, new
        phis = [f"  {counter} = phi i64 [ 0, %{before} ], [ {counter}.n, %{end} ]"]
        for each, following in zip(sums, new, strict=True):
            phis.append(f"  {each} = phi {kind} [ zeroinitializer, %{before} ], [ {following}, %{end} ]")
        self._lines[place:place] = phis
        self.line(f"br label %{end}")
        self.begin(end)
        self.line(f"{counter}.n = add i64 {counter}, 1")
        more = self.value(f"icmp slt i64 {counter}.n, {terms}")
        self.line(f"br i1 {more}, label %{body}, label %{after}")
        self.begin(after)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Write what runs if a condition holds."""
        then, after = self.label(), self.label()
        self.line(f"br i1 {condition}, label %{then}, label %{after}")
        self.begin(then)
        yield
        self.line(f"br label %{after}")
        self.begin(after)
