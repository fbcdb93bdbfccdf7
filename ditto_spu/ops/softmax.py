"""Softmax, with what JAX adds for its masks."""

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, peel, row_sum, splat, whole
from ditto_spu.ops.match import Match, through_converts, unconverted


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
