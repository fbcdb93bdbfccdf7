"""Turn a local step into one compiled loop over all elements, without arrays for what lies between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ditto_kernels.machine.ir_text import Function, Symbol
from ditto_kernels.machine.words import Code, Word, WordRows, WordTable

if TYPE_CHECKING:  # It needs llvmlite, which may be missing where loops are not compiled.
    from ditto_kernels.machine.compile import Code as Compiled
    from ditto_kernels.machine.compile import Processor

LOOP = Symbol("loop", 1, 0)
_SMALL = 40  # Steps of fewer instructions compute two vectors of the widest type at a time.
_AXES = 2  # The block begins with the sizes of the outer and the inner axis.
_PLACES = 3  # Each array has an address, an outer stride and the stride of its rows there.


@dataclass(frozen=True)
class Operand:
    """How a loop reads an operand.

    form: "elements" that lie side by side along the inner axis, "one" element for each place of the outer
    axis, or a "table". rows: the number of rows of an operand that is read by rows, or None. entries: the
    number of entries of a table, or of each row of it.
    """

    dtype: np.dtype[Any]
    form: Literal["elements", "one", "table"]
    rows: int | None = None
    entries: int = 0


@dataclass(frozen=True)
class Result:
    """An array that a loop writes. It has an axis of so many rows in front, or none."""

    dtype: np.dtype[Any]
    rows: int | None


@dataclass(frozen=True, eq=False)
class Loop:
    """A compiled loop, which computes `lanes` elements at once and needs an inner axis that is as long.

    Its argument is the address of a block of integers: the sizes of the outer and of the inner axis, and for
    every operand and then every result the address where that of its elements lies, its outer stride and the
    stride of its rows, in elements.
    """

    lanes: int
    results: tuple[Result, ...]
    single: bool  # whether the step returns an array and not a tuple of arrays
    code: Compiled


def compiled_loop(
    step: Callable[..., Any], operands: Sequence[Operand], public: Mapping[str, Any], target: Processor
) -> Loop:
    """Compile the loop of a step for such operands. Raises RuntimeError if LLVM refuses it."""
    from ditto_kernels.machine.compile import compiled

    f = Function("sketch", [("ptr", "place")])  # It tells the types of the results.
    code = Code(f, 1)
    rows = [["%place"] * (each.rows or 1) for each in operands]
    single, groups = _run(step, _words(code, operands, rows, "0"), public)
    results = tuple(Result(group[0].dtype, None if alone else len(group)) for alone, group in groups)
    read = [each.dtype for each in operands if each.form != "table"]
    widest = max(each.itemsize for each in (*read, *(each.dtype for each in results)))
    lanes = target.vector_bytes // widest * (2 if f.length < _SMALL else 1)
    text = _module(step, operands, results, public, lanes)
    return Loop(lanes, results, single, compiled(text, (LOOP,), target))


def _run(
    step: Callable[..., Any], words: Sequence[Any], public: Mapping[str, Any]
) -> tuple[bool, list[tuple[bool, list[Word]]]]:
    """Return whether the step has a single result, and by result whether it is one word, and its words."""
    made = step(*words, **public)
    single = not isinstance(made, tuple)
    return single, [
        (isinstance(each, Word), [each] if isinstance(each, Word) else [*each])
        for each in ([made] if single else made)
    ]


def _module(
    step: Callable[..., Any],
    operands: Sequence[Operand],
    results: Sequence[Result],
    public: Mapping[str, Any],
    lanes: int,
) -> str:
    f = Function(LOOP.name, [("ptr", "block")])
    code = Code(f, lanes)
    outer, inner = (_argument(f, place) for place in range(_AXES))
    last = f.subtract(inner, lanes)
    both: tuple[Operand | Result, ...] = (*operands, *results)
    arrays = [(each.dtype, each.rows) for each in both]
    starts = [_start(f, place) for place in range(len(arrays))]
    with f.loop(0, outer) as place:
        pointers = [
            _rows(f, dtype, rows, start, place) for (dtype, rows), start in zip(arrays, starts, strict=True)
        ]
        fixed = _fixed(code, operands, pointers)
        with f.loop(0, inner, lanes) as element:
            at = f.least(element, last)  # The last vector overlaps the one before it.
            words = _words(code, operands, pointers, at, fixed)
            _, groups = _run(step, words, public)
            for (_, group), of_result in zip(groups, pointers[len(operands) :], strict=True):
                for word, pointer in zip(group, of_result, strict=True):
                    code.store(word, f.at(_held(word.dtype), pointer, at))
    f.needs("declare i64 @llvm.smin.i64(i64, i64)")
    return "\n".join([f.text(), *f.declared])


def _held(dtype: np.dtype[Any]) -> str:
    """Return the type of an element in memory."""
    return f"i{8 * dtype.itemsize}"


def _argument(f: Function, place: int) -> str:
    return f.load("i64", f.at("i64", "%block", place))


def _start(f: Function, number: int) -> tuple[str, str, str]:
    """Return (address, outer stride, stride of rows) of an array."""
    address, outer, row = (_argument(f, _AXES + _PLACES * number + each) for each in range(_PLACES))
    field = f.value(f"inttoptr i64 {address} to ptr")
    return f.load("ptr", field), outer, row


def _rows(
    f: Function, dtype: np.dtype[Any], rows: int | None, start: tuple[str, str, str], place: str
) -> list[str]:
    """Return the address of each row of an array at a place of the outer axis."""
    address, outer, row = start
    first = f.at(_held(dtype), address, f.multiply(outer, place))
    if rows is None:
        return [first]
    return [f.at(_held(dtype), first, f.multiply(row, number)) for number in range(rows)]


def _fixed(code: Code, operands: Sequence[Operand], pointers: Sequence[Sequence[str]]) -> list[Word | None]:
    """Read the operands that have one element for each place of the outer axis."""
    return [
        code.load_one(each.dtype, of[0]) if each.form == "one" else None
        for each, of in zip(operands, pointers, strict=False)
    ]


def _words(
    code: Code,
    operands: Sequence[Operand],
    pointers: Sequence[Sequence[str]],
    at: str,
    fixed: Sequence[Word | None] | None = None,
) -> list[Word | WordRows | WordTable]:
    """Return what stands for the operands in the body of the loop."""
    words: list[Word | WordRows | WordTable] = []
    for each, of, one in zip(operands, pointers, fixed or _fixed(code, operands, pointers), strict=False):
        if each.form == "table":
            words.append(WordTable(code, each.dtype, [*of], each.entries))
        elif one is not None:
            words.append(one)
        else:
            places = [code.function.at(_held(each.dtype), pointer, at) for pointer in of]
            rows = WordRows(code, each.dtype, places)
            words.append(rows[0] if each.rows is None else rows)
    return words
