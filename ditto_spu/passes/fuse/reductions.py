"""Write reductions of secret values so that kernels and sums serve them.

Each reduction becomes maxima along one dimension, sums, comparisons and products. This is a part of fuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind
from ditto_spu.ops.argmax import ARGMAX, argmax, indices_of_extreme
from ditto_spu.passes.fuse.sorting_networks import reversed_order

_EXTREMES: dict[str, Callable[..., Array]] = {"maximum": jnp.maximum, "minimum": jnp.minimum}
Places = tuple[tuple[int, ...], ...]  # of each element of a window, its place for each result
_LONG = 4  # windows longer than this are taken by doubling


def expand_reductions(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place the reductions of secret values that have no kernel as they are."""
    reductions = [each for each in ir.walk(ir.main(module)) if kind(each) in ("reduce", "reduce_window")]
    for op in reductions:
        if not any(secret.get(each, True) for each in op.operands):
            continue
        if kind(op) == "reduce_window":
            _windows(op)
        elif kind(op) == "reduce" and len(op.results) == 1:
            _reduction(op)
        elif kind(op) == "reduce":
            _index(module, op)


def _repeated(op: ir.Op) -> str:
    """Return the operation that a reduction repeats, or ''."""
    inside = [kind(each) for each in ir.ops(op.regions[0].blocks[0])]
    return inside[0] if len(inside) == 2 else ""


def _reduction(op: ir.Op) -> None:
    repeated, dims = _repeated(op), ir.attribute(op, "dimensions")
    value = op.operands[0]
    count = math.prod(ir.shape(value)[dim] for dim in dims)
    if not count:
        return
    if repeated in ("or", "and") and ir.element(value) == "i1":
        ir.rewrite(op, partial(_any if repeated == "or" else _all, dims=dims))
    elif repeated == "multiply":
        ir.rewrite(op, partial(_product, dims=dims))
    elif repeated in _EXTREMES and len(dims) > 1:
        ir.rewrite(op, partial(_extreme, name=repeated, dims=dims), [value])


def _any(value: Array, start: Array, dims: tuple[int, ...]) -> Array:
    return (value.astype(jnp.int32).sum(dims) + start.astype(jnp.int32)) > 0


def _all(value: Array, start: Array, dims: tuple[int, ...]) -> Array:
    count = math.prod(value.shape[dim] for dim in dims)
    return (value.astype(jnp.int32).sum(dims) + start.astype(jnp.int32)) > count


def _flat(value: Array, dims: tuple[int, ...]) -> Array:
    """Return the value with these dimensions joined as the last one."""
    kept = [dim for dim in range(value.ndim) if dim not in dims]
    return value.transpose((*kept, *dims)).reshape(*(value.shape[dim] for dim in kept), -1)


def _extreme(value: Array, name: str, dims: tuple[int, ...]) -> Array:
    flat = _flat(value, dims)
    return flat.max(-1) if name == "maximum" else flat.min(-1)


def _product(value: Array, start: Array, dims: tuple[int, ...]) -> Array:
    """Return the product along dimensions, as a tree."""
    flat = _flat(value, dims)
    while (size := flat.shape[-1]) > 1:
        half = size // 2
        joined = flat[..., :half] * flat[..., half : 2 * half]
        flat = jnp.concatenate([joined, flat[..., 2 * half :]], -1) if size % 2 else joined
    return flat[..., 0] * start


def _windows(op: ir.Op) -> None:
    """Write the maxima or minima of windows dimension by dimension, and products of all earlier elements."""
    repeated, shape = _repeated(op), ir.shape(op.operands[0])
    if len(op.results) != 1 or not all((*shape, *ir.shape(op.results[0]))):
        return
    whole = [1] * len(shape)
    sizes, strides, apart, bases = (
        tuple(ir.attribute(op, name) or whole)
        for name in ("window_dimensions", "window_strides", "window_dilations", "base_dilations")
    )
    padding = np.reshape(ir.attribute(op, "padding") or (0, 0) * len(shape), (len(shape), 2)).tolist()
    if any(base != 1 for base in bases):
        return
    if repeated in _EXTREMES:
        per_dim = [
            places_of(*each)
            for each in zip(shape, ir.shape(op.results[0]), sizes, strides, apart, padding, strict=True)
        ]
        places = tuple(each for each in per_dim if each is not None)
        if len(places) == len(shape):
            meaning = partial(_window_extremes, join=_EXTREMES[repeated], dims=places, sizes=sizes)
            ir.rewrite(op, meaning, [op.operands[0]])
    elif repeated == "multiply":
        long = [dim for dim, size in enumerate(sizes) if size > 1]
        if len(long) == 1 and sizes[long[0]] == shape[long[0]] and ir.shape(op.results[0]) == shape:
            before, after = padding[long[0]]
            if {before, after} == {0, shape[long[0]] - 1}:
                ir.rewrite(op, partial(_running_product, dim=long[0], reverse=after > 0), [op.operands[0]])


def places_of(
    size: int, results: int, window: int, stride: int, apart: int, padding: Sequence[int]
) -> Places | None:
    """Return for each element of a window its place for each result, or None for a window of padding alone.

    A place in the padding is replaced by another one of the same window, which changes no maximum.
    """
    rows = []
    for result in range(results):
        places = [result * stride - padding[0] + apart * each for each in range(window)]
        inside = [place for place in places if 0 <= place < size]
        if not inside:
            return None
        rows.append([min(max(place, inside[0]), inside[-1]) for place in places])
    return tuple(zip(*rows, strict=True))


def _window_extremes(
    value: Array,
    join: Callable[..., Array],
    dims: tuple[tuple[tuple[int, ...], ...], ...],
    sizes: tuple[int, ...],
) -> Array:
    for dim, (places, size) in enumerate(zip(dims, sizes, strict=True)):
        if places == (tuple(range(value.shape[dim])),):
            continue
        value = jnp.moveaxis(value, dim, -1)
        if size > _LONG and places[0] and _consecutive(places):
            value = _by_doubling(value, join, places)
        else:
            parts = [_at(value, each) for each in places]
            while len(parts) > 1:
                pairs = [join(*parts[at : at + 2]) for at in range(0, len(parts) - 1, 2)]
                parts = pairs + parts[len(pairs) * 2 :]
            value = parts[0]
        value = jnp.moveaxis(value, -1, dim)
    return value


def _consecutive(places: tuple[tuple[int, ...], ...]) -> bool:
    return all(max(each) - min(each) + 1 == len(set(each)) for each in zip(*places, strict=True))


def _at(value: Array, places: Sequence[int]) -> Array:
    return value.at[..., np.array(places)].get(mode="promise_in_bounds")


def _by_doubling(value: Array, join: Callable[..., Array], places: tuple[tuple[int, ...], ...]) -> Array:
    """Return extremes of ranges of neighbours: two overlapping ranges, whose lengths are powers of two."""
    ranges = [(min(each), max(each) + 1) for each in zip(*places, strict=True)]
    size, tables = value.shape[-1], [value]
    most = max(end - start for start, end in ranges)
    while 2 ** len(tables) <= most:
        length = 2 ** (len(tables) - 1)
        tables.append(join(tables[-1], _at(tables[-1], [min(i + length, size - 1) for i in range(size)])))
    level = [(end - start).bit_length() - 1 for start, end in ranges]
    joined = jnp.concatenate(tables, -1)
    first = [depth * size + start for depth, (start, _) in zip(level, ranges, strict=True)]
    second = [depth * size + end - 2**depth for depth, (_, end) in zip(level, ranges, strict=True)]
    return join(_at(joined, first), _at(joined, second))


def _running_product(value: Array, dim: int, reverse: bool) -> Array:
    """Return the product of all elements up to each one along a dimension."""
    value = jnp.moveaxis(value, dim, -1)
    value = value[..., ::-1] if reverse else value
    step = 1
    while step < value.shape[-1]:
        value = jnp.concatenate([value[..., :step], value[..., step:] * value[..., :-step]], -1)
        step *= 2
    value = value[..., ::-1] if reverse else value
    return jnp.moveaxis(value, -1, dim)


def _index(module: ir.Module, op: ir.Op) -> None:
    """Write the index of a largest or smallest element as the sum of places times a one-hot vector."""
    found = indices_of_extreme(op)
    if found is None or any(ir.users(op.results[0])):
        return
    value, dim, least = found
    if least:
        (value,) = ir.emit(reversed_order, [value], op, op.location)
    attributes = {"dim": dim, "whole": 1}
    meaning = partial(argmax, dim=dim, whole=1)
    hot = ir.composite(module, ARGMAX.composite, meaning, [value], attributes, op, op.location)
    dtype = str(ir.dtype(op.results[1]))
    (new,) = ir.emit(partial(_place, dim=dim, dtype=dtype), [hot], op, op.location)
    ir.replace_all_uses(op.results[1], new)
    op.erase()


def _place(hot: Array, dim: int, dtype: str) -> Array:
    places = jnp.arange(hot.shape[dim], dtype=dtype)
    places = places.reshape([-1 if each == dim else 1 for each in range(hot.ndim)])
    return (hot.astype(dtype) * places).sum(dim, dtype=dtype)
