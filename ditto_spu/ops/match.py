"""Hold the result of matching a pattern, and read factors and operands for patterns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, kind, peel


@dataclass(frozen=True)
class Match:
    """The operands and attributes of a matched pattern.

    `prepare` is a JAX function that makes the operands of the composite out of `values`.
    `public` is the match to take instead where all operands but the first are public.
    """

    values: tuple[ir.Value, ...]
    attributes: Mapping[str, int | float | str] = field(default_factory=dict)
    prepare: Callable[..., tuple[Any, ...]] = lambda *values: values
    public: Match | None = None


def factors(seen: Seen, depth: int = 6) -> list[tuple[Seen, bool]]:
    """Return the factors of a product of products and quotients.

    Each factor comes with a flag that tells whether it divides.
    """
    inner = peel(seen)
    if depth and inner.name == "multiply":
        return factors(inner.operand(0), depth - 1) + factors(inner.operand(1), depth - 1)
    if depth and inner.name == "divide":
        below = factors(inner.operand(1), depth - 1)
        return factors(inner.operand(0), depth - 1) + [(each, not divides) for each, divides in below]
    return [(seen, False)]


def lies_as(seen: Seen, value: ir.Value) -> bool:
    """Tell whether a value has the type of the outer one, neither transposed nor broadcast in it."""
    return seen.value.type == value.type and all(d in (i, None) for i, d in enumerate(seen.dims))


def is_vector(seen: Seen, like: ir.Value) -> bool:
    """Tell whether a value is one number for each position along the last dimension of `like`."""
    size, dim = ir.shape(like)[-1:], len(ir.shape(like)) - 1
    elements = math.prod(ir.shape(seen.value))
    long = [d for d, n in zip(seen.dims, ir.shape(seen.value), strict=True) if n != 1]
    return (elements,) == size and long in ([], [dim])


def unconverted(value: ir.Value) -> ir.Value:
    """Return the value before its conversions from other float types."""
    while kind(op := ir.define(value)) == "convert" and op is not None and ir.is_float(op.operands[0]):
        value = op.operands[0]
    return value


def through_converts(a: ir.Value, b: ir.Value) -> bool:
    """Tell whether two values differ by float conversions only."""
    return unconverted(a) == unconverted(b)
