"""Runs local steps on ring elements with numpy.

Most local steps take less time than one call of XLA. `TABLE` has the operations that make up layouts and
sums. A step with any other operation runs on XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir

Array = NDArray[Any]
Meaning = Callable[..., Array]


def _broadcast(op: ir.Op) -> Meaning:
    shape, places = ir.shape(op.results[0]), ir.attribute(op, "broadcast_dimensions")
    order = np.argsort(places)
    missing = [axis for axis in range(len(shape)) if axis not in places]
    return lambda x: np.broadcast_to(np.expand_dims(x.transpose(order), missing), shape)


def _slice(op: ir.Op) -> Meaning:
    names = ("start_indices", "limit_indices", "strides")
    part = tuple(slice(*each) for each in zip(*(ir.attribute(op, name) for name in names), strict=True))
    return lambda x: x[part]


def _starts(shape: Sequence[int], sizes: Sequence[int], starts: Sequence[Array]) -> tuple[slice, ...]:
    """Return where a dynamic slice lies. Starts are clamped so that it fits, as StableHLO specifies."""
    firsts = [
        min(max(int(start), 0), whole - size) for start, whole, size in zip(starts, shape, sizes, strict=True)
    ]
    return tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))


def _dynamic_slice(op: ir.Op) -> Meaning:
    sizes = ir.attribute(op, "slice_sizes")
    return lambda x, *starts: x[_starts(x.shape, sizes, starts)]


def _updated(x: Array, update: Array, *starts: Array) -> Array:
    result = x.copy()
    result[_starts(x.shape, update.shape, starts)] = update
    return result


def _reshape(op: ir.Op) -> Meaning:
    shape = ir.shape(op.results[0])
    return lambda x: x.reshape(shape)


def _transpose(op: ir.Op) -> Meaning:
    order = ir.attribute(op, "permutation")
    return lambda x: x.transpose(order)


def _concatenate(op: ir.Op) -> Meaning:
    axis = ir.attribute(op, "dimension")
    return lambda *operands: np.concatenate(operands, axis)


def _reverse(op: ir.Op) -> Meaning:
    axes = ir.attribute(op, "dimensions")
    return lambda x: np.flip(x, axes)


TABLE: dict[str, Callable[[ir.Op], Meaning]] = {
    "stablehlo.add": lambda op: np.add,
    "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.concatenate": _concatenate,
    "stablehlo.dynamic_slice": _dynamic_slice,
    "stablehlo.dynamic_update_slice": lambda op: _updated,
    "stablehlo.multiply": lambda op: np.multiply,
    "stablehlo.negate": lambda op: np.negative,
    "stablehlo.reshape": _reshape,
    "stablehlo.reverse": _reverse,
    "stablehlo.slice": _slice,
    "stablehlo.subtract": lambda op: np.subtract,
    "stablehlo.transpose": _transpose,
}


@dataclass(frozen=True)
class _Program:
    """A list of numpy calls. Each reads values by number and appends one value. The arguments come first."""

    calls: tuple[tuple[Meaning, tuple[int, ...]], ...]
    results: tuple[int, ...]


@ir.kept_by_text
def _program(source: str) -> _Program | None:
    """Return the program of a step, or None if one of its operations is not in the table."""
    module = ir.parse(source)
    *operations, end = ir.ops(ir.body(ir.main(module)))
    if any(op.name not in TABLE for op in operations):
        return None
    places = {value: place for place, value in enumerate(ir.arguments(module))}
    calls = []
    for op in operations:
        calls.append((TABLE[op.name](op), tuple(places[each] for each in op.operands)))
        places[op.results[0]] = len(places)
    return _Program(tuple(calls), tuple(places[each] for each in end.operands))


def prepare(source: str) -> None:
    """Compile a step before `evaluate` runs it."""
    if _program(source) is None:
        ir.prepare(source)


def evaluate(source: str, args: Sequence[Any]) -> list[Array]:
    """Run a step on ring elements, whose arithmetic wraps.

    source: the step as StableHLO text.
    args: arrays in the order of its arguments. They are not changed.

    Returns one contiguous array per result.
    """
    program = _program(source)
    if program is None:
        return ir.evaluate(source, args)
    values = [np.asarray(each) for each in args]
    for meaning, operands in program.calls:
        values.append(meaning(*[values[each] for each in operands]))
    return [np.ascontiguousarray(values[each]).reshape(np.shape(values[each])) for each in program.results]
