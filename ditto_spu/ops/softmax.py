"""Compute softmax along a dimension, with or without a mask.

JAX writes it as `jax.nn.softmax(x, axis, where=...)`: exponentials of x minus its maximum, over their sum.
The pattern accepts any number in place of the maximum. A later part of fuse takes masks and scales out of the
scores. The record also lists the functions that may replace softmax in trained models.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jax import Array

from ditto_kernels.softmax.plan import largest_score, plan_softmax
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, peel, row_sum, splat, whole
from ditto_spu.ops import puma_formulas
from ditto_spu.ops.decision import Kind, read
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.match import Match, through_converts, unconverted
from ditto_spu.ops.observed import Facts, Operands, extremes
from ditto_spu.ops.op import (
    Approximation,
    Call,
    Op,
    Pattern,
    Relied,
    Sample,
    composite_attributes,
    options,
)
from ditto_spu.ops.tries import Rung, Tries
from ditto_spu.plan.plan import Attributes


def softmax(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """Return softmax(scale * x) over `dim`, where `mask` is true.

    A row in which the mask is true nowhere is 1/n everywhere. The mask is a boolean that broadcasts to x.
    """
    x = x * jnp.asarray(scale, x.dtype)
    if mask is None:
        e = jnp.exp(x - jnp.max(x, axis=dim, keepdims=True))
        return e / jnp.sum(e, axis=dim, keepdims=True)
    # The least element takes the place of masked ones, so that every number fits a fixed-point format.
    kept = jnp.where(mask, x, jnp.min(x, axis=dim, keepdims=True))
    e = jnp.where(mask, jnp.exp(kept - jnp.max(kept, axis=dim, keepdims=True)), 0)
    e = jnp.where(jnp.any(mask, axis=dim, keepdims=True), e, 1)
    return e / jnp.sum(e, axis=dim, keepdims=True)


def match_softmax(root: ir.Op) -> Match | None:
    """Match exp(x - c) / sum(exp(x - c)), for any c that is constant along the row.

    c is usually the maximum of the row.
    """
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
    # jax.nn.softmax(where=...) masks x with -infinity, and then masks the terms of the sum again, which
    # changes nothing.
    plain = through_converts(summed, numerator)
    if not plain and not (_is_masked_low(x) and _is_masked_sum(summed, numerator)):
        return None
    return Match((x,), {"dim": dim, "scale": 1.0})


def _is_masked_sum(summed: ir.Value, e: ir.Value) -> bool:
    """Tell whether `summed` is e where some mask is true and 0 elsewhere."""
    op = ir.define(unconverted(summed))
    return (
        op is not None
        and kind(op) == "select"
        and splat(op.operands[2]) == 0
        and through_converts(op.operands[1], e)
    )


def _is_masked_low(x: ir.Value) -> bool:
    """Tell whether x is select(mask, ..., low), with -infinity or a number far below any score."""
    op = ir.define(x)
    low = splat(op.operands[2]) if kind(op) == "select" and op is not None else None
    return low is not None and low <= -1e4


def _constant_along(value: ir.Value, dim: int) -> bool:
    """Tell whether the value was broadcast along `dim` from a value that does not depend on it."""
    return dim not in peel(whole(value)).dims


EPSILON = 0.01  # 2ReLU adds this number, over the length of the row, to every numerator


def two_quad(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """Return MPCFormer's replacement for softmax, (x + 5)^2 over its sum.

    Source: Li et al., MPCFormer, arXiv 2211.01452.
    """
    return _normalised(jnp.square(scale * x + 5), mask, dim)


def two_relu(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """Return MPCFormer's replacement for softmax with the numerators relu(x) + epsilon / n.

    Source: Li et al., MPCFormer, arXiv 2211.01452.
    """
    return _normalised(jnp.maximum(scale * x, 0) + EPSILON / x.shape[dim], mask, dim)


def _normalised(values: Array, mask: Array | None, dim: int) -> Array:
    if mask is not None:
        kept = jnp.where(mask, values, 0.0)
        values = jnp.where(mask.any(axis=dim, keepdims=True), kept, 1.0)
    return values / values.sum(axis=dim, keepdims=True)


def extra(call: Call) -> Attributes:
    """Return the kernel's attributes, with the declared range of the scores.

    The range lets the kernel take the maximum in a smaller ring.
    """
    known = call.reach(call.op.operands[0])
    return (*(() if known is None else (("range", known),)), *composite_attributes(call))


def operand_limit(call: Call, fxp: Fxp) -> float:
    """Return the largest magnitude that a score may have."""
    op, attributes = call.op, ir.composite_attributes(call.op)
    scale: float = attributes["scale"]
    approx: Any = call.decision.approx or "exact"
    if approx == "2quad":
        return min(fxp.limit / 2, (2.0**10 - 5) / abs(scale))
    hidden = len(op.operands) > 1 and call.secret(op.operands[1])
    length = ir.shape(op.operands[0])[attributes["dim"]]
    return largest_score(fxp, call.decision.out, length, scale, hidden, approx)


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of scores, where the kernel was told one. It often serves some more."""
    known, fxp = call.reach(call.op.operands[0]), call.operand
    if known is None or fxp is None:
        return
    attributes = dict(composite_attributes(call)) | dict(options(call, ("approx", "inner")))
    hidden = len(call.op.operands) > 1 and call.secret(call.op.operands[1])
    shape, out = ir.shape(call.op.operands[0]), call.decision.out

    def chosen(range: float) -> tuple[Any, ...] | None:
        try:
            plan = plan_softmax(shape, fxp, out, range=range, secret_mask=hidden, **attributes)
        except ValueError:  # no plan serves such a range
            return None
        return plan.coarse, plan.window, plan.bound

    low, high, wanted = min(known, fxp.limit / 2), fxp.limit / 2, chosen(known)
    if chosen(high) == wanted:
        return
    for _ in range(_BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if chosen(middle) == wanted else (low, middle)
    yield Relied("score", -low, low, fact="operand", told=True)


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest score that is not masked."""
    del op
    scores, *masks = operands
    kept = jnp.broadcast_to(masks[0], scores.shape) if masks else None
    return {"operand": extremes(scores, kept)}


_BISECTIONS = 6  # steps in which the largest range of a plan is found
SCORE_BITS = 8.5  # fraction bits of a scaled score: their rounding changes a probability by 0.3 %
PROBABILITY = Fxp(32, 14)


def ladder(op: ir.Op) -> tuple[Rung, ...]:
    """Return the steps of scores: 16 bits, then 32. A larger scale magnifies their rounding."""
    scale = abs(ir.composite_attributes(op)["scale"])
    bits = max(1, round(SCORE_BITS + math.log2(scale))) if scale else 1
    operands = (*((Fxp(16, bits),) if bits <= 10 else ()), *((Fxp(32, bits + 2),) if bits <= 16 else ()))
    return tuple(
        Rung(format=PROBABILITY, operand=each, inner=PROBABILITY, approx="exact") for each in operands
    )


def shares_of_one(op: ir.Op, at: ir.At) -> ir.Rows:
    """Bound the sum of probabilities by 1, and by what rounding may add to each of them."""
    del at
    dim, decision = int(ir.composite_attributes(op)["dim"]), read(op)
    ulp = _COARSE if decision is None else max(each.ulp for each in (decision.out, decision.inner) if each)
    return ir.Rows(dim, 1.0, 1.0 + ir.shape(op.results[0])[dim] * ulp)


_COARSE = 2.0**-8  # the rounding of a probability whose format is not known yet
SOFTMAX = Op(
    name="softmax",
    summary="softmax along a dimension, with or without a mask",
    kernels={"ditto.softmax": "softmax"},
    bounds=(0.0, 1.0),
    rows=shares_of_one,
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
    integers=True,  # masks are booleans
    operand_limit=operand_limit,
    relies_on=relies_on,
    facts=observe,
    search=Tries(
        operands=tuple(Fxp(16, bits) for bits in (5, 6, 7)),
        inner=(Fxp(32, 12), Fxp(32, 13), Fxp(32, 14), Fxp(64, 22)),
        ladder=ladder,
        absolute=True,
    ),
    sample=Sample(rows=True, operands=1),  # a mask only leaves terms out
)
