"""Write the Cholesky decomposition and the solution of triangular systems in sums, products and quotients.

This is a part of fuse. Kernels then serve what is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.arithmetic import kind

MOST = 64  # rows of a matrix; the operations are written out row by row


def expand_linear_algebra(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite both operations on secret values in place.

    Raises UnsupportedOpError for a matrix of more than MOST rows.
    """
    for op in list(ir.walk(ir.main(module))):
        if kind(op) not in ("cholesky", "triangular_solve"):
            continue
        if not any(secret.get(each, True) for each in op.operands):
            continue
        rows = ir.shape(op.operands[0])[-1]
        if rows > MOST:
            raise UnsupportedOpError(
                f"{ir.path_of(op) or 'the program'} ({ir.source_of(op)}): {kind(op)} of {rows} rows on "
                f"secret values, where at most {MOST} are written out: work on blocks"
            )
        ir.rewrite(op, _meaning(op))


def _meaning(op: ir.Op) -> Callable[..., Array]:
    lower = bool(ir.attribute(op, "lower", False))
    if kind(op) == "cholesky":
        return partial(_cholesky, lower=lower)
    return partial(
        _triangular,
        lower=lower,
        left=bool(ir.attribute(op, "left_side")),
        unit=bool(ir.attribute(op, "unit_diagonal")),
        turned="NO_TRANSPOSE" not in str(op.attributes["transpose_a"]),
    )


def _cholesky(a: Array, lower: bool) -> Array:
    """Return the triangular factor, column by column. The other triangle of `a` is not read."""
    a = a if lower else jnp.swapaxes(a, -1, -2)
    columns: list[Array] = []
    for j in range(a.shape[-1]):
        rest = a[..., j:, j]
        for column in columns:
            rest = rest - column[..., j:] * column[..., j : j + 1]
        scaled = rest * lax.rsqrt(rest[..., :1])
        columns.append(jnp.concatenate([jnp.zeros((*a.shape[:-2], j), a.dtype), scaled], -1))
    return jnp.stack(columns, -1 if lower else -2)


def _triangular(a: Array, b: Array, lower: bool, left: bool, unit: bool, turned: bool) -> Array:
    """Return x with a x = b, or x a = b, by substitution row by row."""
    if not left:
        return jnp.swapaxes(_triangular(a, jnp.swapaxes(b, -1, -2), lower, True, unit, not turned), -1, -2)
    if turned:
        a, lower = jnp.swapaxes(a, -1, -2), not lower
    order = range(a.shape[-1]) if lower else reversed(range(a.shape[-1]))
    rows: dict[int, Array] = {}
    for i in order:
        rest = b[..., i, :]
        for k, row in rows.items():
            rest = rest - a[..., i, k, None] * row
        rows[i] = rest if unit else rest / a[..., i, i, None]
    return jnp.stack([rows[i] for i in sorted(rows)], -2)
