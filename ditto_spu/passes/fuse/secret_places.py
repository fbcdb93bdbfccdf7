"""Write updates and reads at secret places as choices at every place, so that nothing shows which one it was.

JAX writes them for `x.at[i].set(y)`, `x.at[i].add(y)`, `n[i]` with integers n, and inside functions such as
`jnp.unique`. Look-ups of floats are a pattern with a kernel (`ops/embedding.py`). This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind
from ditto_spu.passes.fuse.secret_points import points


def expand_secret_places(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place what reads or updates along one dimension at secret indices."""
    names = ("scatter", "gather", "dynamic_update_slice")
    for op in [each for each in ir.walk(ir.main(module)) if kind(each) in names]:
        if kind(op) == "dynamic_update_slice":
            if any(secret.get(each, True) for each in list(op.operands)[2:]):
                ir.rewrite(op, _placed)
        elif len(op.results) == 1 and secret.get(op.operands[1], True):
            meaning = (_scattered(op) or points(op)) if kind(op) == "scatter" else _gathered(op)
            if meaning is not None:
                ir.rewrite(op, meaning)


def _placed(x: Array, update: Array, *starts: Array) -> Array:
    """Return x with the update at the starts, which are clamped so that it fits."""
    value, inside = update, jnp.ones(x.shape, bool)
    for dim, (start, size, whole) in enumerate(zip(starts, update.shape, x.shape, strict=True)):
        if size == whole:
            continue
        first = jnp.clip(start, 0, whole - size)
        each = jnp.arange(whole - size + 1, dtype=first.dtype) == first
        value = _spread(value, each, dim)
        inside = inside & _held(each, size).reshape([-1 if other == dim else 1 for other in range(x.ndim)])
    return jnp.where(inside, value, x)


def _parts(place: int, starts: Array, size: int) -> range:
    """Return which rows of an update can lie at a place."""
    return range(max(0, place - starts.shape[0] + 1), min(size, place + 1))


def _spread(value: Array, starts: Array, dim: int) -> Array:
    """Return the value moved along a dimension to the one start of which a bit is set, among zeros."""
    value, size = jnp.moveaxis(value, dim, 0), value.shape[dim]
    rows = []
    for place in range(starts.shape[0] + size - 1):
        kept = [_kept(starts[place - part], value[part]) for part in _parts(place, starts, size)]
        rows.append(sum(kept[1:], kept[0]))
    return jnp.moveaxis(jnp.stack(rows), 0, dim)


def _held(starts: Array, size: int) -> Array:
    """Return where a value moved in this way lies."""
    counts = starts.astype(jnp.int32)
    places = range(starts.shape[0] + size - 1)
    sums = [sum(counts[place - part] for part in _parts(place, starts, size)) for place in places]
    return jnp.stack([jnp.asarray(each) for each in sums]) > 0


def _kept(bit: Array, value: Array) -> Array:
    return jnp.where(bit, value, jnp.zeros_like(value))


def _gathered(op: ir.Op) -> Callable[..., Array] | None:
    """Return the meaning of a gather of whole rows along one dimension, or None for other gathers."""
    shape, indices = ir.shape(op.operands[0]), ir.shape(op.operands[1])
    dims, collapsed, batches, offsets = (
        ir.dimensions(op, "gather", part)
        for part in ("start_index_map", "collapsed_slice_dims", "operand_batching_dims", "offset_dims")
    )
    sizes = ir.attribute(op, "slice_sizes")
    if len(dims) != 1 or batches or ir.element(op.operands[0]) == "i1":
        return None
    whole = tuple(1 if dim == dims[0] else size for dim, size in enumerate(shape))
    (vector,) = ir.dimensions(op, "gather", "index_vector_dim")
    if collapsed != dims or tuple(sizes) != whole or (vector < len(indices) and indices[vector] != 1):
        return None
    rank = len(ir.shape(op.results[0]))
    rows = tuple(each for each in range(rank) if each not in offsets)
    places = tuple(size for dim, size in enumerate(indices) if dim != vector)
    return partial(_read, dim=dims[0], order=(*rows, *offsets), places=places)


def _read(x: Array, indices: Array, dim: int, order: tuple[int, ...], places: tuple[int, ...]) -> Array:
    """Return rows of x along `dim`. Indices out of range are moved to the nearest row, as XLA does."""
    x = jnp.moveaxis(x, dim, 0)
    flat = jnp.clip(indices.reshape(-1, 1), 0, x.shape[0] - 1)
    hit = flat == jnp.arange(x.shape[0], dtype=flat.dtype)
    hit = hit.reshape(*hit.shape, *[1] * (x.ndim - 1))
    rows = jnp.where(hit, x, jnp.zeros((), x.dtype)).sum(1, dtype=x.dtype)
    return rows.reshape(*places, *x.shape[1:]).transpose(tuple(order.index(d) for d in range(len(order))))


def _scattered(op: ir.Op) -> Callable[..., Array] | None:
    """Return the meaning of a scatter of rows along one dimension, or None for other scatters."""
    shape, updates = ir.shape(op.operands[0]), ir.shape(op.operands[2])
    indices = ir.shape(op.operands[1])
    dims, inserted, batches, windows = (
        ir.dimensions(op, "scatter", part)
        for part in (
            "scattered_dims_to_operand_dims",
            "inserted_window_dims",
            "input_batching_dims",
            "update_window_dims",
        )
    )
    if len(dims) != 1 or inserted != dims or batches:
        return None
    (vector,) = ir.dimensions(op, "scatter", "index_vector_dim")
    if vector < len(indices) and indices[vector] != 1:
        return None
    rows = tuple(each for each in range(len(updates)) if each not in windows)
    rest = tuple(size for dim, size in enumerate(shape) if dim != dims[0])
    if tuple(updates[each] for each in windows) != rest or ir.element(op.operands[0]) == "i1":
        return None
    inside = [kind(each) for each in ir.ops(op.regions[0].blocks[0])]
    adds = inside == ["add", "return"]
    if not adds and inside != ["return"]:
        return None
    unique = bool(ir.attribute(op, "unique_indices", False))
    return partial(_rows, dim=dims[0], order=(*rows, *windows), adds=adds, unique=unique)


def _rows(
    x: Array, indices: Array, updates: Array, dim: int, order: tuple[int, ...], adds: bool, unique: bool
) -> Array:
    """Return x with rows added or replaced along `dim`. Indices out of range change nothing.

    Of several updates of one row the last one stays, as with XLA.
    """
    x = jnp.moveaxis(x, dim, 0)
    values = updates.transpose(order).reshape(-1, *x.shape[1:])
    flat = indices.reshape(-1, 1)
    hit = flat == jnp.arange(x.shape[0], dtype=flat.dtype)
    count = hit.astype(jnp.int32)
    if not adds and not unique and len(values) > 1:
        later = lax.cumsum(count, axis=0, reverse=True)
        hit = hit & (later == 1)
    chosen = jnp.where(hit.reshape(*hit.shape, *[1] * (x.ndim - 1)), values[:, None], jnp.zeros((), x.dtype))
    total = chosen.sum(0, dtype=x.dtype)
    if adds:
        return jnp.moveaxis(x + total, 0, dim)
    held = (count.sum(0) > 0).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.moveaxis(jnp.where(held, total, x), 0, dim)
