"""Write updates of single elements at places of which some coordinates are secret as choices.

JAX writes them in the gradients of `jnp.take_along_axis`, of sorts, and of losses with integer labels: row i
is updated at a secret column. The updates are sorted by their known coordinates, and compared with every
place along the secret ones. This is a part of fuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind

_MOST = 64  # operations that make a known coordinate
_LARGEST = 1 << 24  # comparisons of one scatter

Known = dict[int, NDArray[np.int64]]  # the coordinate of every update along a dimension


def points(op: ir.Op) -> Callable[..., Array] | None:
    """Return the meaning of a scatter of elements along several dimensions, or None for other scatters."""
    shape, indices = ir.shape(op.operands[0]), ir.shape(op.operands[1])
    dims, inserted, windows, batches, index_batches = (
        ir.dimensions(op, "scatter", part)
        for part in (
            "scattered_dims_to_operand_dims",
            "inserted_window_dims",
            "update_window_dims",
            "input_batching_dims",
            "scatter_indices_batching_dims",
        )
    )
    (vector,) = ir.dimensions(op, "scatter", "index_vector_dim")
    updates, inside = ir.shape(op.operands[2]), [kind(each) for each in ir.ops(op.regions[0].blocks[0])]
    rest = tuple(size for dim, size in enumerate(shape) if dim not in (*inserted, *batches))
    if (
        vector >= len(indices)
        or sorted(inserted) != sorted(dims)
        or inside not in (["add", "return"], ["return"])
    ):
        return None
    if tuple(updates[each] for each in windows) != rest or ir.element(op.operands[0]) == "i1":
        return None
    places = tuple(size for dim, size in enumerate(indices) if dim != vector)
    known = _known_columns(op.operands[1], vector, dims, places)
    for dim, along in zip(batches, index_batches, strict=True):
        known[dim] = _iota(places, along - (along > vector))
    count = math.prod(places)
    secret = tuple(each for each in dims if each not in known)
    size = math.prod(shape[each] for each in secret)
    inside_all = all(((each >= 0) & (each < shape[dim])).all() for dim, each in known.items())
    if not known or not secret or not inside_all or count * size > _LARGEST:
        return None
    held = tuple(sorted(known))
    flat = np.ravel_multi_index([known[each] for each in held], [shape[each] for each in held])
    return partial(
        _updated,
        held=held,
        secret=secret,
        columns=tuple(dims.index(each) for each in secret),
        vector=vector,
        order=tuple(map(tuple, _grouped(flat, math.prod(shape[each] for each in held)).tolist())),
        turned=(*(dim for dim in range(len(updates)) if dim not in windows), *windows),
        adds=inside[0] == "add",
    )


def _iota(places: tuple[int, ...], dim: int) -> NDArray[np.int64]:
    return np.indices(places)[dim].reshape(-1)


def _known_columns(indices: ir.Value, vector: int, dims: Sequence[int], places: tuple[int, ...]) -> Known:
    """Return the coordinates that constants alone make, by dimension of the operand."""
    joined = ir.define(indices)
    if joined is None or kind(joined) != "concatenate" or ir.attribute(joined, "dimension") != vector:
        return {}
    found: Known = {}
    column = 0
    for part in joined.operands:
        size = ir.shape(part)[vector]
        value = _constant(part)
        for each in range(size):
            if value is not None:
                found[dims[column + each]] = np.take(value, each, vector).reshape(-1).astype(np.int64)
        column += size
    assert all(each.size == math.prod(places) for each in found.values())
    return found


def _constant(value: ir.Value) -> NDArray[np.int64] | None:
    """Return what operations on constants alone compute, or None for a value that depends on an argument."""
    chain: list[ir.Op] = []
    pending = [value]
    while pending:
        maker = ir.define(pending.pop())
        if maker is None or len(chain) > _MOST or len(maker.regions):
            return None
        chain.append(maker)
        pending += maker.operands
    ordered = list(dict.fromkeys(reversed(chain)))
    block = [op for op in ir.ops(value.owner.parent.regions[0].blocks[0]) if op in ordered]
    return np.asarray(ir.evaluate(ir.extract(block, [], [value], "constant"), [])[0], np.int64)


def _grouped(flat: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return for each of `count` places the numbers of its updates, filled up with one past the last."""
    most = int(np.bincount(flat, minlength=count).max())
    order = np.full((count, most), flat.size)
    filled = np.zeros(count, np.int64)
    for number, place in enumerate(flat):
        order[place, filled[place]] = number
        filled[place] += 1
    return order


def _updated(
    x: Array,
    indices: Array,
    updates: Array,
    held: tuple[int, ...],
    secret: tuple[int, ...],
    columns: tuple[int, ...],
    vector: int,
    order: tuple[tuple[int, ...], ...],
    turned: tuple[int, ...],
    adds: bool,
) -> Array:
    """Return x with elements added or replaced. A secret coordinate out of range changes nothing."""
    rest = tuple(dim for dim in range(x.ndim) if dim not in (*held, *secret))
    sizes, window = tuple(x.shape[each] for each in secret), tuple(x.shape[each] for each in rest)
    groups = np.array(order)
    flat = jnp.moveaxis(indices, vector, -1).reshape(-1, indices.shape[vector])
    values = updates.transpose(turned).reshape(-1, *window)
    nobody = jnp.full_like(flat[:1], -1)  # where a place has fewer updates than others
    coordinates = jnp.concatenate([flat, nobody])[groups]  # (places, updates of each, columns)
    values = jnp.concatenate([values, jnp.zeros_like(values[:1])])[groups]
    hit = jnp.ones(groups.shape, bool).reshape(*groups.shape, *[1] * len(sizes))
    for at, (column, size) in enumerate(zip(columns, sizes, strict=True)):
        each = jnp.arange(size, dtype=flat.dtype).reshape(-1, *[1] * (len(sizes) - at - 1))
        here = coordinates[..., column].reshape(*groups.shape, *[1] * len(sizes)) == each
        hit = here if at == 0 else hit & here
    count = hit.astype(jnp.int32)
    if not adds and groups.shape[1] > 1:
        hit = hit & (lax.cumsum(count, axis=1, reverse=True) == 1)  # the last one stays
    wide = hit.reshape(*hit.shape, *[1] * len(window))
    spread = values.reshape(*groups.shape, *[1] * len(sizes), *window)
    total = jnp.where(wide, spread, jnp.zeros((), x.dtype)).sum(1, dtype=x.dtype)
    lying = x.transpose((*held, *secret, *rest))
    total = total.reshape(lying.shape)
    if not adds:
        taken = (count.sum(1) > 0).reshape(*lying.shape[: lying.ndim - len(window)], *[1] * len(window))
        total = jnp.where(taken, total, lying)
    back = tuple(np.argsort((*held, *secret, *rest)))
    return (lying + total if adds else total).transpose(back)
