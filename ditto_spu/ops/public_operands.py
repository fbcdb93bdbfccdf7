"""Find the facts about a public operand that hold at compile time."""

from __future__ import annotations

import math

import numpy as np

from ditto_spu import ir


def source(value: ir.Value) -> ir.Op | None:
    """Return the operation whose result, only broadcast and reshaped, is the value."""
    maker = ir.define(value)
    while maker is not None and maker.name in ("stablehlo.broadcast_in_dim", "stablehlo.reshape"):
        maker = ir.define(maker.operands[0])
    return maker


def constant(value: ir.Value) -> np.ndarray | None:
    """Return the elements of a constant, perhaps broadcast or reshaped, or None for other values."""
    maker = source(value)
    return ir.constant_value(maker) if maker is not None and maker.name == "stablehlo.constant" else None


def quotient(value: ir.Value) -> np.ndarray | None:
    """Return the elements of a quotient of two constants, or None for other values."""
    maker = source(value)
    if maker is None or maker.name != "stablehlo.divide":
        return None
    dividend, divisor = (constant(each) for each in maker.operands)
    if dividend is None or divisor is None or not np.all(divisor):
        return None
    return np.asarray(np.float64(dividend) / np.float64(divisor))


_DEPTH = 32  # how many operations are followed
_BOUNDED = ("cosine", "sine", "tanh")
# Operations that rearrange the operands at these places, or take some of their elements.
_REARRANGED = {
    "gather": (0,),
    "slice": (0,),
    "dynamic_slice": (0,),
    "reshape": (0,),
    "broadcast_in_dim": (0,),
    "transpose": (0,),
    "convert": (0,),
    "negate": (0,),
    "select": (1, 2),
    "minimum": (0, 1),
    "maximum": (0, 1),
}


def largest(value: ir.Value) -> float | None:
    """Return a bound on the magnitude of a public value, or None if no bound is known.

    A cosine of positions, for example, is at most 1.
    """
    return _largest(value, _DEPTH, {})


def _largest(value: ir.Value, depth: int, known: dict[ir.Value, float | None]) -> float | None:
    """Return the bound, and note it in `known`: values that meet again and again are followed once."""
    if value not in known:
        known[value] = _followed(value, depth, known)
    return known[value]


def _followed(value: ir.Value, depth: int, known: dict[ir.Value, float | None]) -> float | None:
    op = ir.define(value)
    if op is None or depth == 0 or not ir.is_float(value):
        return None
    name = op.name.partition(".")[2]
    if name == "constant":
        size = float(np.max(np.abs(np.asarray(ir.constant_value(op), np.float64)), initial=0.0))
        return size if math.isfinite(size) else None
    if name in _BOUNDED:
        return 1.0
    if name == "divide":  # 1/n of a mean, which would lose its digits if nothing were known of it
        divisor, top = constant(op.operands[1]), _largest(op.operands[0], depth - 1, known)
        least = 0.0 if divisor is None else float(np.min(np.abs(divisor), initial=math.inf))
        return top / least if top is not None and 0 < least < math.inf else None
    places = range(len(op.operands)) if name == "concatenate" else _REARRANGED.get(name, ())
    sizes = [_largest(op.operands[place], depth - 1, known) for place in places]
    found = [size for size in sizes if size is not None]
    return max(found) if found and len(found) == len(sizes) else None


def of_any_size(value: ir.Value) -> bool:
    """Tell whether nothing bounds the magnitude of a public value, or its least digit, before a run."""
    return ir.is_float(value) and largest(value) is None and not is_integral(value)


def is_integral(value: ir.Value) -> bool:
    """Tell whether a public value is a converted integer or boolean, perhaps broadcast or reshaped."""
    maker = source(value)
    return maker is not None and maker.name == "stablehlo.convert" and not ir.is_float(maker.operands[0])


def is_binary(value: ir.Value) -> bool:
    """Tell whether every element is 0 or 1: the value is a converted boolean, perhaps reshaped."""
    maker = source(value)
    return maker is not None and maker.name == "stablehlo.convert" and ir.element(maker.operands[0]) == "i1"


def digits_below_one(constant: np.ndarray) -> int:
    """Return the fraction bits that every element needs to be exact, or 64 if it takes more than 32."""
    exact = np.asarray(constant, np.float64)
    return next((bits for bits in range(33) if np.all(exact * 2.0**bits % 1 == 0)), 64)


def power_of_two(constant: np.ndarray) -> int | None:
    """Return the exponent if every element is the same positive power of two, else None."""
    first = float(constant.reshape(-1)[0])
    if first <= 0 or not np.all(constant == first):
        return None
    mantissa, exponent = math.frexp(first)
    return exponent - 1 if mantissa == 0.5 else None
