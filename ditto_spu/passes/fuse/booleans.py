"""Write what JAX asks of booleans so that the logic of shared booleans serves it.

Fixed point has no NaN, so a value always equals itself. This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, splat


def expand_booleans(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place choices between secret booleans by public ones, and tests for NaN."""
    for op in [each for each in ir.ops(ir.body(ir.main(module))) if kind(each) in ("compare", "select")]:
        hidden = [secret.get(each, True) for each in op.operands]
        if not any(hidden):
            continue
        if kind(op) == "select" and ir.element(op.results[0]) == "i1" and not hidden[0]:
            ir.rewrite(op, _chosen)
        elif kind(op) == "compare" and op.operands[0] == op.operands[1]:
            equal = ir.comparison(op) in ("EQ", "LE", "GE")
            _fold(op, equal)


def _chosen(predicate: Array, x: Array, y: Array) -> Array:
    return y ^ (predicate & (x ^ y))


def _fold(op: ir.Op, value: bool) -> None:
    """Replace a comparison by a constant, and reductions that ask whether it holds anywhere."""
    for reader in ir.users(op.results[0]):
        if kind(reader) == "reduce" and len(reader.results) == 1 and splat(reader.operands[1]) == value:
            ir.rewrite(reader, partial(jnp.full, ir.shape(reader.results[0]), value), [])
    ir.rewrite(op, partial(jnp.full, ir.shape(op.results[0]), value), [])
