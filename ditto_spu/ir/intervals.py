"""Bound the numbers of a program by what is known without inputs: constants, and functions like sigmoid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ditto_spu.ir.bindings import Module, Op, Value
from ditto_spu.ir.integer_bounds import bounds
from ditto_spu.ir.module import body, main, ops
from ditto_spu.ir.row_norms import EVERYTHING, At, Interval, Rows, kept_rows, meeting, product_interval
from ditto_spu.ir.run import constant_value
from ditto_spu.ir.values import attribute, dimensions, is_float, is_known, shape

_BOUNDED = {
    "cosine": (-1.0, 1.0),
    "sine": (-1.0, 1.0),
    "tanh": (-1.0, 1.0),
    "sign": (-1.0, 1.0),
    "logistic": (0.0, 1.0),
}
# Operations whose elements are elements of the operands at these places.
_REARRANGED = {
    "gather": (0,),
    "slice": (0,),
    "dynamic_slice": (0,),
    "reshape": (0,),
    "reverse": (0,),
    "broadcast_in_dim": (0,),
    "transpose": (0,),
    "optimization_barrier": (0,),
    "select": (1, 2),
    "pad": (0, 1),
    "dynamic_update_slice": (0, 1),
}
_MONOTONE: dict[str, Callable[[float], float]] = {
    "exponential": lambda x: math.exp(min(x, 700.0)) if x < 700 else math.inf,
    "log": lambda x: math.log(x) if x > 0 else -math.inf,
    "floor": lambda x: x if math.isinf(x) else math.floor(x),
    "ceil": lambda x: x if math.isinf(x) else math.ceil(x),
    "round_nearest_even": lambda x: x if math.isinf(x) else float(np.round(x)),
    "sqrt": lambda x: math.sqrt(max(x, 0.0)),
}


def intervals(
    module: Module,
    given: Callable[[Op], Interval | None],
    keeps: Callable[[Op], bool],
    settle: Callable[[Op, Interval], Interval] = lambda op, found: found,
    rows_of: Callable[[Op, At], Rows | None] = lambda op, at: None,
) -> dict[Value, Interval]:
    """Return an interval for every number of @main. It holds all values that the program may take.

    given: returns the interval of an operation's result, whatever its operands are, or None.
    keeps: tells whether an operation returns its operand, but for rounding.
    settle: returns the interval to go on with, from the one that follows from the operands.
    rows_of: returns what an operation says of the rows of its result, given the intervals of its operands.
    Integers may wrap, so they are bounded as `bounds` does. Roundings of formats are not counted.
    """
    known: dict[Value, Interval] = {}
    rows: dict[Value, Rows] = {}

    def at(value: Value) -> Interval:
        return _at(value, known)

    for op in ops(body(main(module)))[:-1]:
        if len(op.results) != 1 or not is_known(op.results[0]) or not is_float(op.results[0]):
            continue
        said = given(op)
        if keeps(op):
            said = at(op.operands[0])
        found = said if said is not None else _of(op, at)
        row = rows_of(op, at)
        if row is None and op.operands and op.operands[0] in rows:
            row = kept_rows(op, rows[op.operands[0]], keeps(op))
        if row is not None:
            rows[op.results[0]] = row
            found = meeting(found, row.interval)
        if op.name == "stablehlo.dot_general":
            found = meeting(found, product_interval(op, at, rows))
        known[op.results[0]] = settle(op, EVERYTHING if any(map(math.isnan, found)) else found)
    return known


def _at(value: Value, known: dict[Value, Interval]) -> Interval:
    if value in known:
        return known[value]
    if is_known(value) and not is_float(value):
        low, high = bounds(value)
        return float(low), float(high)
    return EVERYTHING


def _of(op: Op, at: At) -> Interval:
    name, operands = op.name.partition(".")[2], list(op.operands)
    if name == "constant":
        array = np.asarray(constant_value(op), np.float64)
        return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if name == "iota":
        return 0.0, float(max(0, shape(op.results[0])[attribute(op, "iota_dimension")] - 1))
    if name in _BOUNDED:
        return _BOUNDED[name]
    if name in ("add", "subtract", "multiply", "maximum", "minimum", "divide"):
        return _ARITHMETIC[name](at(operands[0]), at(operands[1]), operands[0] == operands[1])
    if name in ("negate", "abs", "convert", "clamp"):
        return _unary(name, [at(each) for each in operands])
    if name in _MONOTONE:
        low, high = at(operands[0])
        return _MONOTONE[name](low), _MONOTONE[name](high)
    if name in ("reduce", "dot_general"):
        return _sum(op, name, at)
    places = range(len(operands)) if name == "concatenate" else _REARRANGED.get(name, ())
    inner = [at(operands[place]) for place in places]
    return (min(a for a, _ in inner), max(b for _, b in inner)) if inner else EVERYTHING


def _unary(name: str, of: list[Interval]) -> Interval:
    low, high = of[0]
    if name == "negate":
        return -high, -low
    if name == "abs":
        return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
    if name == "clamp":
        (least, _), (low, high), (_, most) = of
        return max(least, min(low, most)), min(most, max(high, least))
    return low, high


def _times(one: Interval, other: Interval, same: bool) -> Interval:
    """Return the interval of a product. Zero times infinity counts as zero: the ends are only bounds."""
    ends = [0.0 if 0 in (a, b) else a * b for a in one for b in other]
    low = min(ends)
    if same:
        low = 0.0 if one[0] <= 0 <= one[1] else min(one[0] ** 2, one[1] ** 2)
    return low, max(ends)


def _divided(one: Interval, other: Interval, same: bool) -> Interval:
    low, high = other
    if low <= 0 <= high:
        return EVERYTHING
    return _times(one, (1 / high, 1 / low), False)


_ARITHMETIC: dict[str, Callable[[Interval, Interval, bool], Interval]] = {
    "add": lambda one, other, same: (one[0] + other[0], one[1] + other[1]),
    "subtract": lambda one, other, same: (0.0, 0.0) if same else (one[0] - other[1], one[1] - other[0]),
    "multiply": _times,
    "divide": _divided,
    "maximum": lambda one, other, same: (max(one[0], other[0]), max(one[1], other[1])),
    "minimum": lambda one, other, same: (min(one[0], other[0]), min(one[1], other[1])),
}


def _sum(op: Op, name: str, at: At) -> Interval:
    """Return the interval of a sum, of a maximum or minimum of elements, or of a product of matrices."""
    if name == "dot_general":
        left, right = op.operands
        extent = math.prod(
            shape(left)[each] for each in dimensions(op, "dot_general", "lhs_contracting_dimensions")
        )
        low, high = _times(at(left), at(right), False)
        return _scaled(low, extent), _scaled(high, extent)
    inner = ops(op.regions[0].blocks[0])
    if len(op.operands) != 2 or len(inner) != 2:
        return EVERYTHING
    (low, high), start = at(op.operands[0]), at(op.operands[1])
    if inner[0].name == "stablehlo.add":
        extent = math.prod(shape(op.operands[0])) // max(1, math.prod(shape(op.results[0])))
        return start[0] + _scaled(low, extent), start[1] + _scaled(high, extent)
    if inner[0].name in ("stablehlo.maximum", "stablehlo.minimum"):
        return _ARITHMETIC[inner[0].name.partition(".")[2]]((low, high), start, False)
    return EVERYTHING


def _scaled(end: float, extent: int) -> float:
    return 0.0 if end == 0 else end * extent
