"""Order secret values as JAX does: the first among equals comes first.

SPU's sorting network opens nothing, but it is not stable, and its top_k opens comparisons of shuffled values.
So a sort gets the position as its last key, and top_k becomes such a sort. This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind


def stabilise(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place every sort of secret values in which equal keys are told apart, and every top_k."""
    for op in [each for each in ir.walk(ir.main(module)) if kind(each) in ("sort", "top_k")]:
        if not any(secret.get(each, True) for each in op.operands):
            continue
        if kind(op) == "sort":
            keys = _keys(op)
            if keys < len(op.operands):
                _replace(op, partial(_sorted, keys=keys, dim=ir.attribute(op, "dimension")))
        else:
            _replace(op, partial(_largest, count=ir.attribute(op, "k")))


def _replace(op: ir.Op, meaning: Callable[..., tuple[Array, ...]]) -> None:
    for old, new in zip(op.results, ir.emit(meaning, list(op.operands), op, op.location), strict=True):
        ir.replace_all_uses(old, new)
    op.erase()


def _keys(op: ir.Op) -> int:
    """Return how many operands the comparison of a sort reads. JAX writes the keys first."""
    block = op.regions[0].blocks[0]
    read = [place for place, each in enumerate(block.arguments) if ir.users(each)]
    return max(read, default=-1) // 2 + 1


def _sorted(*operands: Array, keys: int, dim: int) -> tuple[Array, ...]:
    place = lax.broadcasted_iota(jnp.int32, operands[0].shape, dim)
    values = lax.sort(
        (*operands[:keys], place, *operands[keys:]), dimension=dim, num_keys=keys + 1, is_stable=False
    )
    return (*values[:keys], *values[keys + 1 :])


def _largest(x: Array, count: int) -> tuple[Array, Array]:
    """Return the largest elements of each row, in falling order, and their places."""

    def turned(values: Array) -> Array:
        # The complement of an integer reverses the order as well, and it never overflows.
        return -values if jnp.issubdtype(values.dtype, jnp.floating) else ~values

    place = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    keys, places = lax.sort((turned(x), place), num_keys=2, is_stable=False)
    return turned(keys[..., :count]), places[..., :count]
