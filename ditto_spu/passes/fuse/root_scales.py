"""Take factors below 1 out of square roots: sqrt(x / n) becomes sqrt(x) / sqrt(n). This is a part of fuse.

A standard deviation is the root of a mean of squares. The sum has more digits than the mean, and no product
with 1/n takes room from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, splat
from ditto_spu.ops import find
from ditto_spu.ops.sqrt import SQRT


def take_scales_out(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite square roots of secret values of @main in place."""
    for op in list(ir.walk(ir.main(module))):
        if find(op) is not SQRT or not secret.get(op.operands[0], False):
            continue
        inside, scale = op.operands[0], 1.0
        while (found := _factor(ir.define(inside))) is not None:
            inside, factor = found
            scale *= factor
        if inside != op.operands[0]:
            ir.rewrite(op, partial(_scaled_root, scale=math.sqrt(scale)), [inside])


def _scaled_root(x: Array, scale: float) -> Array:
    return jnp.sqrt(x) * jnp.asarray(scale, x.dtype)


def _factor(op: ir.Op | None) -> tuple[ir.Value, float] | None:
    """Return (x, c) for c x with a constant 0 < c < 1, or None."""
    if op is None or kind(op) not in ("multiply", "divide"):
        return None
    left, right = op.operands
    for value, other in ((left, right), (right, left))[: 2 if kind(op) == "multiply" else 1]:
        number = splat(other)
        if number is None or not 0 < number < math.inf:
            continue
        factor = number if kind(op) == "multiply" else 1 / number
        if 0 < factor < 1:
            return value, factor
    return None
