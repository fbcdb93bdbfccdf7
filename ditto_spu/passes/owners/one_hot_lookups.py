"""Turn look-ups by an owner's own ids in a table of others into one-hot rows times the table."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ditto_spu import ir
from ditto_spu.frontend.owners import PUBLIC, SHARED
from ditto_spu.ops.embedding import EMBEDDING


def own_lookups(module: ir.Module, levels: Callable[[], Callable[[ir.Value], str]]) -> None:
    """Rewrite in place every embedding of ids that one owner has, in a table that it does not have.

    The owner makes the one-hot rows. The parties compute a product of matrices, which is exact in ring 32.
    """
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        if ir.composite_name(op) != EMBEDDING.composite:
            continue
        table, ids = op.operands
        level = levels()  # computed anew, because the last rewriting added values
        if level(ids) in (PUBLIC, SHARED) or level(table) in (PUBLIC, level(ids)):
            continue
        ir.rewrite(op, _product)
    ir.run_passes(module, "cse,symbol-dce")


def _product(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Return table[ids]. Negative ids count from the end, and others outside the table take the nearest row.

    The pattern of look-ups has left out this arithmetic where JAX gives NaN for an id out of range.
    """
    count = table.shape[0]
    rows = jnp.clip(jnp.where(ids < 0, ids + count, ids), 0, count - 1)[..., None]
    one_hot = (rows == jnp.arange(count, dtype=rows.dtype)).astype(table.dtype)
    return jnp.tensordot(one_hot, table, axes=1)
