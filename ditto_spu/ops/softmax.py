"""Softmax, with the masks that JAX adds, and what replaces it."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_kernels.softmax.plan import largest_score
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, peel, row_sum, splat, whole
from ditto_spu.ops import puma_formulas
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.match import Match, through_converts, unconverted
from ditto_spu.ops.observed import Operands, first
from ditto_spu.ops.op import (
    Approximation,
    Call,
    Op,
    Pattern,
    Sample,
    Span,
    Tries,
    composite_attributes,
    span,
)
from ditto_spu.plan.plan import Attributes


def softmax(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """softmax(scale * x) over `dim`, where `mask` is true; a row without any true is 1/n everywhere."""
    x = x * jnp.asarray(scale, x.dtype)
    if mask is None:
        e = jnp.exp(x - jnp.max(x, axis=dim, keepdims=True))
        return e / jnp.sum(e, axis=dim, keepdims=True)
    # The least element takes the place of what is masked: no number beyond a fixed-point format is needed.
    kept = jnp.where(mask, x, jnp.min(x, axis=dim, keepdims=True))
    e = jnp.where(mask, jnp.exp(kept - jnp.max(kept, axis=dim, keepdims=True)), 0)
    e = jnp.where(jnp.any(mask, axis=dim, keepdims=True), e, 1)
    return e / jnp.sum(e, axis=dim, keepdims=True)


def match_softmax(root: ir.Op) -> Match | None:
    """exp(x - c) / sum(exp(x - c)), for any c that is the same along the row: the maximum, as a rule."""
    numerator, denominator = root.operands
    total = row_sum(whole(denominator))
    e = ir.define(unconverted(numerator))
    if total is None or e is None or kind(e) != "exponential":
        return None
    summed, dim = total
    x = e.operands[0]
    op = ir.define(x)
    if op is not None and kind(op) == "subtract" and _constant_along(op.operands[1], dim):
        x = op.operands[0]
    # jax.nn.softmax(where=...) masks x with -infinity and then again what it sums, which changes nothing.
    plain = through_converts(summed, numerator)
    if not plain and not (_is_masked_low(x) and _is_masked_sum(summed, numerator)):
        return None
    return Match((x,), {"dim": dim, "scale": 1.0})


def _is_masked_sum(summed: ir.Value, e: ir.Value) -> bool:
    """Whether `summed` is e where some mask is true and 0 elsewhere."""
    op = ir.define(unconverted(summed))
    return (
        op is not None
        and kind(op) == "select"
        and splat(op.operands[2]) == 0
        and through_converts(op.operands[1], e)
    )


def _is_masked_low(x: ir.Value) -> bool:
    """Whether x is select(mask, ..., -infinity or another number far below any score)."""
    op = ir.define(x)
    low = splat(op.operands[2]) if kind(op) == "select" and op is not None else None
    return low is not None and low <= -1e4


def _constant_along(value: ir.Value, dim: int) -> bool:
    """Whether the value was broadcast along `dim` from something that does not depend on it."""
    return dim not in peel(whole(value)).dims


EPSILON = 0.01  # of 2ReLU: added to every numerator, over the length of the row


def two_quad(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """MPCFormer's softmax, (x + 5)^2 over its sum. Source: arXiv 2211.01452."""
    return _normalised(jnp.square(scale * x + 5), mask, dim)


def two_relu(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """MPCFormer's softmax with relu(x) + epsilon / n. Source: arXiv 2211.01452."""
    return _normalised(jnp.maximum(scale * x, 0) + EPSILON / x.shape[dim], mask, dim)


def _normalised(values: Array, mask: Array | None, dim: int) -> Array:
    if mask is not None:
        kept = jnp.where(mask, values, 0.0)
        values = jnp.where(mask.any(axis=dim, keepdims=True), kept, 1.0)
    return values / values.sum(axis=dim, keepdims=True)


def extra(call: Call) -> Attributes:
    """The declared range of the scores lets the kernel take the maximum in a smaller ring."""
    known = call.reach(call.op.operands[0])
    return (*(() if known is None else (("range", known),)), *composite_attributes(call))


def operand_limit(call: Call, fxp: Fxp) -> float:
    """How large a score may be."""
    op, attributes = call.op, ir.composite_attributes(call.op)
    scale: float = attributes["scale"]
    approx: Any = call.decision.approx or "exact"
    if approx == "2quad":
        return min(fxp.limit / 2, (2.0**10 - 5) / abs(scale))
    hidden = len(op.operands) > 1 and call.secret(op.operands[1])
    length = ir.shape(op.operands[0])[attributes["dim"]]
    return largest_score(fxp, call.decision.out, length, scale, hidden, approx)


def observe(op: ir.Op, operands: Operands) -> Mapping[str, Span]:
    """Least and most of the scores that are not masked."""
    del op
    scores = first(operands)
    mask = operands[1] if len(operands) > 1 else None
    kept = scores if mask is None else scores[np.broadcast_to(mask.astype(bool), scores.shape)]
    return {"operand": span(kept) if kept.size else (0.0, 0.0)}


SOFTMAX = Op(
    name="softmax",
    summary="softmax with or without a mask",
    kernels={"ditto.softmax": "softmax"},
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.divide",), match_softmax, softmax),
    formats=first_operand,
    options=("approx", "inner"),
    approximations={
        "exact": Approximation(),
        "bounded": Approximation(),
        "puma": Approximation(meaning=puma_formulas.softmax),
        "2quad": Approximation(meaning=two_quad, needs_training=True),
        "2relu": Approximation(meaning=two_relu, needs_training=True),
    },
    steepness=0.5,
    extra=extra,
    puma=puma_formulas.softmax,
    integers=True,  # masks
    operand_limit=operand_limit,
    facts=observe,
    search=Tries(
        operands=tuple(Fxp(16, bits) for bits in (5, 6, 7)),
        inner=(Fxp(32, 12), Fxp(32, 13), Fxp(32, 14), Fxp(64, 22)),
    ),
    sample=Sample(rows=True, operands=1),  # a mask only leaves terms out
)
