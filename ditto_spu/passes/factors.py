"""What is known at compile time about a public operand."""

from __future__ import annotations

import math

import numpy as np

from ditto_spu import ir


def source(value: ir.Value) -> ir.Op | None:
    """What made a value that is then only broadcast and reshaped."""
    maker = ir.define(value)
    while maker is not None and maker.name in ("stablehlo.broadcast_in_dim", "stablehlo.reshape"):
        maker = ir.define(maker.operands[0])
    return maker


def constant(value: ir.Value) -> np.ndarray | None:
    """The elements of a constant, perhaps rearranged."""
    maker = source(value)
    return ir.constant_value(maker) if maker is not None and maker.name == "stablehlo.constant" else None


def is_integral(value: ir.Value) -> bool:
    """Whether a public value is a converted integer or boolean, perhaps rearranged."""
    maker = source(value)
    return maker is not None and maker.name == "stablehlo.convert" and not ir.is_float(maker.operands[0])


def is_binary(value: ir.Value) -> bool:
    """Whether every element is 0 or 1: a converted boolean, perhaps rearranged."""
    maker = source(value)
    return maker is not None and maker.name == "stablehlo.convert" and ir.element(maker.operands[0]) == "i1"


def power_of_two(constant: np.ndarray) -> int | None:
    """The exponent, if every element is the same positive power of two."""
    first = float(constant.reshape(-1)[0])
    if first <= 0 or not np.all(constant == first):
        return None
    mantissa, exponent = math.frexp(first)
    return exponent - 1 if mantissa == 0.5 else None
