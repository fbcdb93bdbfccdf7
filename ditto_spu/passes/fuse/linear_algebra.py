"""Write decompositions (Cholesky, QR) and the solution of triangular systems in sums, products and quotients.

This is a part of fuse. Kernels then serve what is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.arithmetic import kind

MOST = 64  # rows of a matrix; the operations are written out row by row


def expand_linear_algebra(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite these operations on secret values in place.

    Raises UnsupportedOpError for a matrix of more than MOST rows.
    """
    for op in list(ir.walk(ir.main(module))):
        name = ir.attribute(op, "call_target_name", kind(op))
        if name not in _MEANINGS:
            continue
        if not any(secret.get(each, True) for each in op.operands):
            continue
        rows = ir.shape(op.operands[0])[-1]
        if rows > MOST:
            raise UnsupportedOpError(
                f"{ir.path_of(op) or 'the program'} ({ir.source_of(op)}): {_NAMES.get(name, name)} of {rows} "
                f"rows on secret values, where at most {MOST} are written out: work on blocks"
            )
        ir.rewrite(op, _MEANINGS[name](op))


def _cholesky_of(op: ir.Op) -> Callable[..., Array]:
    return partial(_cholesky, lower=bool(ir.attribute(op, "lower", False)))


def _triangular_of(op: ir.Op) -> Callable[..., Array]:
    return partial(
        _triangular,
        lower=bool(ir.attribute(op, "lower", False)),
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


def _reflected(a: Array) -> tuple[Array, Array]:
    """Return the reflections of a QR decomposition as LAPACK packs them: R with vectors below, and factors.

    Reflection j is 1 - factor v v^T, where v is 0 above row j and 1 in it.
    """
    rows, columns = a.shape[-2:]
    factors = []
    for j in range(min(rows, columns)):
        head, rest = a[..., j, j], a[..., j + 1 :, j]
        if rest.shape[-1] == 0:
            factors.append(jnp.zeros_like(head))
            continue
        below = (rest * rest).sum(-1)
        straight = below == 0
        size = jnp.sqrt(head * head + below)
        end = jnp.where(head > 0, -size, size)
        inverse = _inverse(jnp.where(straight, 1.0, head - end))
        vector = rest * inverse[..., None]
        factor = jnp.where(straight, 0.0, 2.0 / (1.0 + (vector * vector).sum(-1)))
        factors.append(factor)
        whole = jnp.concatenate([jnp.ones_like(vector[..., :1]), vector], -1)
        block = a[..., j:, j + 1 :]
        along = factor[..., None] * (whole[..., None] * block).sum(-2)
        block = block - whole[..., None] * along[..., None, :]
        column = jnp.concatenate([jnp.where(straight, head, end)[..., None], vector], -1)
        lower = jnp.concatenate([column[..., None], block], -1)
        a = jnp.concatenate([a[..., :j, :], jnp.concatenate([a[..., j:, :j], lower], -1)], -2)
    return a, jnp.stack(factors, -1)


def _inverse(x: Array) -> Array:
    """Return 1 / x with a step of Newton, so that reflections keep lengths."""
    guess = 1.0 / x
    return guess + guess * (1.0 - x * guess)


def _orthogonal(packed: Array, factors: Array) -> Array:
    """Return the first columns of the product of reflections that `_reflected` has packed."""
    rows, columns = packed.shape[-2:]
    result = jnp.broadcast_to(jnp.eye(rows, columns, dtype=packed.dtype), packed.shape)
    for j in reversed(range(factors.shape[-1])):
        one = jnp.ones_like(packed[..., :1, 0])
        vector = jnp.concatenate([jnp.zeros_like(packed[..., :j, 0]), one, packed[..., j + 1 :, j]], -1)
        along = factors[..., j, None] * (vector[..., None] * result).sum(-2)
        result = result - vector[..., None] * along[..., None, :]
    return result


_QR, _PRODUCT = "Qr", "ProductOfElementaryHouseholderReflectors"  # as JAX calls them where it knows no LAPACK
_NAMES = {_QR: "qr", _PRODUCT: "qr"}
_MEANINGS: Mapping[str, Callable[[ir.Op], Callable[..., Any]]] = {
    "cholesky": _cholesky_of,
    "triangular_solve": _triangular_of,
    _QR: lambda op: _reflected,
    _PRODUCT: lambda op: _orthogonal,
}
