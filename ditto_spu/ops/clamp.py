"""Bring every element between two bounds.

`jax.lax.clamp(low, x, high)` writes `stablehlo.clamp`. `jnp.clip` writes a maximum and a minimum. The pattern
finds both where the bounds are constants. One kernel takes half the rounds of two.
"""

import jax.numpy as jnp
from jax import Array

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import binary, kind, splat
from ditto_spu.ops import slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.match import Match
from ditto_spu.ops.observed import Facts, Operands, extremes
from ditto_spu.ops.op import Choice, Chooser, Formats, Op, Pattern
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER


def clip(low: Array, x: Array, high: Array) -> Array:
    """Return min(max(x, low), high)."""
    return jnp.minimum(jnp.maximum(x, low), high)


def match_clip(root: ir.Op) -> Match | None:
    """Match min(max(x, low), high), and max(min(x, high), low), for constants in order."""
    inner = "maximum" if kind(root) == "minimum" else "minimum"
    for value, outer in binary(root):
        op, end = ir.define(value), splat(outer)
        if end is None or op is None or kind(op) != inner or not ir.is_float(value):
            continue
        for x, other in binary(op):
            start = splat(other)
            if start is not None and splat(x) is None:
                bounds = (other, outer) if inner == "maximum" else (outer, other)
                return Match((bounds[0], x, bounds[1])) if _ordered(inner, start, end) else None
    return None


def _ordered(inner: str, start: float, end: float) -> bool:
    """Tell whether finite bounds lie in order. Infinite ones are left to the simpler operations."""
    low, high = (start, end) if inner == "maximum" else (end, start)
    return LOWEST < low <= high < -LOWEST


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let the secret operands meet in one format, which the result takes too."""
    del default
    formats = operands_of(chooser, op, choice, main=3, shared_public=False)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    meet = meeting(formats)
    return Formats(dict.fromkeys(formats, meet), meet)


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of the lower bound and of the value."""
    del op
    low, value = operands[:2]
    return {"operand": extremes(low), "second": extremes(value)}


LOWEST = -3e38  # a number at or below this is -infinity, or the least finite one

CLAMP = Op(
    name="clamp",
    summary="a value between two bounds",
    kernels={"stablehlo.clamp": "clamp", "ditto.clip": "clamp"},
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.minimum", "stablehlo.maximum"), match_clip, clip),
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("format",),  # the result has the format of the operands
    mixed=lambda op: True,
    puma=clip,
    facts=observe,
    search=Tries(slopes=slopes.passed),
)
