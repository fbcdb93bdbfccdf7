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
        (rows,) = ir.emit(_product, [table, ids], op, op.location)
        ir.replace_all_uses(op.results[0], rows)
        op.erase()
    ir.run_passes(module, "cse,symbol-dce")


def _product(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Return table[ids]. Ids outside the table take the nearest row, as in the composite's decomposition."""
    rows = jnp.clip(ids, 0, table.shape[0] - 1)[..., None]
    one_hot = (rows == jnp.arange(table.shape[0], dtype=rows.dtype)).astype(table.dtype)
    return jnp.tensordot(one_hot, table, axes=1)
