"""Bound the integers of a program, so that arithmetic on indices that cannot matter is left out."""

from __future__ import annotations

import numpy as np

from ditto_spu.ir.bindings import Value
from ditto_spu.ir.run import constant_value
from ditto_spu.ir.values import attribute, define, dtype, is_float, is_known, shape

Bounds = tuple[int, int]
_DEPTH = 32  # how many operations are followed
# Operations that rearrange the operands at these places, or take some of their elements.
_REARRANGED = {
    "reshape": (0,),
    "broadcast_in_dim": (0,),
    "transpose": (0,),
    "slice": (0,),
    "reverse": (0,),
    "dynamic_slice": (0,),
    "gather": (0,),
    "select": (1, 2),
}


def bounds(value: Value) -> Bounds:
    """Return the least and the largest number that an integer or boolean value may hold.

    Without knowledge these are the ends of its dtype.
    """
    return _bounds(value, _DEPTH, {})


def _bounds(value: Value, depth: int, known: dict[Value, Bounds]) -> Bounds:
    """Return the bounds, and note them in `known`: values that meet again and again are followed once."""
    if value not in known:
        known[value] = _followed(value, depth, known)
    return known[value]


def _followed(value: Value, depth: int, known: dict[Value, Bounds]) -> Bounds:
    low, high = _ends(value)
    op = define(value)
    if op is None or depth == 0:
        return low, high
    name = op.name.partition(".")[2]
    if name == "constant":
        array = constant_value(op)
        return (int(array.min()), int(array.max())) if array.size else (0, 0)
    if name == "iota":
        size = shape(value)[attribute(op, "iota_dimension")]
        return 0, max(0, size - 1)
    operands = list(op.operands)
    places = range(len(operands)) if name == "concatenate" else _REARRANGED.get(name, ())
    if name == "convert" and not is_float(operands[0]):
        places = (0,)
    inner = [_bounds(operands[place], depth - 1, known) for place in places]
    if name in ("add", "subtract", "minimum", "maximum", "clamp") and not is_float(value):
        inner = [_joined(name, [_bounds(each, depth - 1, known) for each in operands])]
    if not inner:
        return low, high
    found = min(each[0] for each in inner), max(each[1] for each in inner)
    return found if low <= found[0] and found[1] <= high else (low, high)  # else it may have wrapped


def _joined(name: str, of: list[Bounds]) -> Bounds:
    if name == "clamp":
        (least, _), (low, high), (_, most) = of
        return max(least, min(low, most)), min(most, max(high, least))
    (a, b), (c, d) = of
    if name == "add":
        return a + c, b + d
    if name == "subtract":
        return a - d, b - c
    return (min(a, c), min(b, d)) if name == "minimum" else (max(a, c), max(b, d))


def _ends(value: Value) -> Bounds:
    if not is_known(value) or is_float(value):
        raise ValueError(f"{value.type} has no integers")
    kind = dtype(value)
    if kind.kind == "b":
        return 0, 1
    info = np.iinfo(kind)
    return int(info.min), int(info.max)
