"""Note facts about operands, for the ranges that several kernels rely on.

Facts are JAX functions. They run inside the observed program, so that only extremes leave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ditto_spu import ir

Operands = Sequence[Array]
Extremes = tuple[Array, Array]
Facts = Mapping[str, Extremes]


def operand(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of the first operand."""
    del op
    return {"operand": extremes(operands[0])}


def operand_and_second(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of both operands."""
    facts = dict(operand(op, operands))
    if len(operands) > 1 and jnp.issubdtype(operands[1].dtype, jnp.floating):
        facts["second"] = extremes(operands[1])
    return facts


def real(value: Array) -> Array:
    """Return the elements as numbers of a float type. Integers become exact float64 numbers."""
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(jnp.float64)
    return value.astype(jnp.float32) if value.dtype.itemsize < 4 else value


def extremes(value: Array, taken: Array | None = None) -> Extremes:
    """Return the least and the largest element, as float64 scalars.

    Both are NaN if an element is NaN, and 0 for an array without elements.

    taken: booleans that tell which elements count. If none does, the result is (inf, -inf).
    """
    if not value.size:
        return jnp.float64(0), jnp.float64(0)
    value = real(value)
    infinite = jnp.asarray(np.inf, value.dtype)
    low, high = value, value
    if taken is not None:
        low, high = jnp.where(taken, value, infinite), jnp.where(taken, value, -infinite)
    # XLA computes one reduction of a pair on CPUs about ten times as fast as two reductions.
    least, most = lax.reduce(
        (low, high),
        (infinite, -infinite),
        lambda a, b: (lax.min(a[0], b[0]), lax.max(a[1], b[1])),
        tuple(range(value.ndim)),
    )
    return least.astype(jnp.float64), most.astype(jnp.float64)
