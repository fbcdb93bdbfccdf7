"""Write every sort of secret values as a sorting network, and every top_k as a part of one.

A network compares and exchanges the elements at places that do not depend on any value. So nothing is opened,
and the kernels of comparison and choice do all the work. This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.arithmetic import kind
from ditto_spu.ops.argmax import counts_along

Layer = tuple[tuple[int, int], ...]  # pairs of places, of which the first gets the smaller element


def expand_sorts(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place every sort and every top_k of secret values.

    Order is that of JAX: the first among equals comes first. Values are moved, never rounded.
    Raises UnsupportedOpError for a comparator that JAX does not write.
    """
    for op in [each for each in ir.walk(ir.main(module)) if kind(each) in ("sort", "top_k")]:
        if not any(secret.get(each, True) for each in op.operands):
            continue
        if kind(op) == "sort":
            dim, keys = ir.attribute(op, "dimension"), _keys(op)
            placed = keys < len(op.operands) and counts_along(op.operands[keys], dim)
            ir.rewrite(op, partial(sort, keys=keys, dim=dim, placed=placed, wanted=_wanted(op, dim)))
        else:
            ir.rewrite(op, partial(_largest, count=ir.attribute(op, "k")))


def _keys(op: ir.Op) -> int:
    """Return how many operands the comparison of a sort reads. JAX writes the keys first.

    Its comparisons take the smaller element first, and compare an element with itself or with zero beside.
    """
    block = op.regions[0].blocks[0]
    for each in ir.ops(block):
        if kind(each) == "compare" and ir.comparison(each) not in ("LT", "EQ", "NE"):
            path = ir.path_of(op)
            raise UnsupportedOpError(
                f"{path or 'the program'} ({ir.source_of(op)}): a sort of secret values by its own "
                "comparison: sort in ascending order by keys, as jnp.sort and lax.sort do"
            )
    read = [place for place, each in enumerate(block.arguments) if ir.users(each)]
    return max(read, default=-1) // 2 + 1


def _wanted(op: ir.Op, dim: int) -> tuple[int, ...] | None:
    """Return the places of the sorted elements that slices read, or None if anything reads all of them."""
    readers = [each for result in op.results for each in ir.users(result)]
    if any(kind(each) != "slice" for each in readers):
        return None
    names = ("start_indices", "limit_indices", "strides")
    read = [range(*(ir.attribute(each, name)[dim] for name in names)) for each in readers]
    return tuple(sorted({place for places in read for place in places}))


@lru_cache(maxsize=64)
def network(size: int, wanted: Collection[int] | None = None) -> tuple[Layer, ...]:
    """Return the layers of Batcher's merge exchange for so many elements.

    wanted: the places whose elements are read. Exchanges that matter for no such place are left out, and
        elements elsewhere end anywhere. None stands for all.
    Source: Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M.
    """
    layers: list[Layer] = []
    top = 1 << max(0, (size - 1).bit_length() - 1)
    step = top if size > 1 else 0
    while step:
        far, rest, apart = top, 0, step
        while True:
            layers.append(tuple((i, i + apart) for i in range(size - apart) if i & step == rest))
            if far == step:
                break
            apart, far, rest = far - step, far // 2, step
        step //= 2
    needed, kept = set(range(size) if wanted is None else wanted), []
    for layer in reversed(layers):
        pairs = tuple(pair for pair in layer if needed & set(pair))
        needed.update(place for pair in pairs for place in pair)
        kept += [pairs] if pairs else []
    return tuple(reversed(kept))


def sort(
    *operands: Array, keys: int, dim: int, placed: bool = False, wanted: tuple[int, ...] | None = None
) -> tuple[Array, ...]:
    """Sort operands along a dimension by the first `keys` of them, stably.

    placed: whether the operand behind the keys is the place of each element.
    wanted: the places of the results that are read, or None for all.
    """
    values = [jnp.moveaxis(each, dim, -1) for each in operands]
    if len(values) == keys:
        values = _ordered(values, keys, False, wanted)
    elif placed:
        values = _ordered(values, keys + 1, True, wanted)
    else:  # among equal keys the earlier place comes first
        values.insert(keys, lax.broadcasted_iota(jnp.int32, values[0].shape, values[0].ndim - 1))
        values = _ordered(values, keys + 1, True, wanted)
        del values[keys]
    return tuple(jnp.moveaxis(each, -1, dim) for each in values)


def _ordered(values: list[Array], keys: int, placed: bool, wanted: tuple[int, ...] | None) -> list[Array]:
    """Sort along the last dimension. `placed`: whether the last key is the place."""
    size = values[0].shape[-1]
    held = np.arange(size)  # the place of the network whose element lies at each place of the arrays
    for depth, layer in enumerate(network(size, wanted)):
        places = [place for pair in zip(*layer, strict=True) for place in pair]
        order = np.array([*places, *sorted(set(range(size)) - set(places))])
        values = [_taken(each, np.argsort(held)[order]) for each in values]
        # In the first layer the earlier place always comes first, so that places need no comparison.
        values, held = _exchange(values, keys, len(layer), placed and depth == 0), order
    return [_taken(each, np.argsort(held)) for each in values]


def _taken(value: Array, places: NDArray[np.intp]) -> Array:
    if np.array_equal(places, np.arange(len(places))):
        return value
    return value.at[..., places].get(mode="promise_in_bounds", unique_indices=True)


def _exchange(values: Sequence[Array], keys: int, pairs: int, settled: bool) -> list[Array]:
    """Bring the smaller of the elements i and `pairs` + i to place i, for all i below `pairs`.

    settled: whether the last key need not be compared, because it is smaller in every first element.
    """
    first = [each[..., :pairs] for each in values]
    second = [each[..., pairs : 2 * pairs] for each in values]
    last = keys - 2 if settled else keys - 1
    turned = second[last] < first[last]
    for one, other in zip(reversed(first[:last]), reversed(second[:last]), strict=True):
        turned = jnp.where(turned, other <= one, other < one)
    turned = jnp.concatenate([turned, turned], -1)
    return [
        jnp.concatenate(
            [
                jnp.where(
                    turned,
                    jnp.concatenate([other, one], -1),
                    jnp.concatenate([one, other], -1),
                ),
                each[..., 2 * pairs :],
            ],
            -1,
        )
        for each, one, other in zip(values, first, second, strict=True)
    ]


def reversed_order(values: Array) -> Array:
    """Return values in the opposite order: negated floats, and integers that never overflow."""
    if jnp.issubdtype(values.dtype, jnp.floating):
        return -values
    if jnp.issubdtype(values.dtype, jnp.unsignedinteger):
        return jnp.iinfo(values.dtype).max - values
    return jnp.array(-1, values.dtype) - values


def _largest(x: Array, count: int) -> tuple[Array, Array]:
    """Return the largest elements of each row, in falling order, and their places."""
    place = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    keys, places = _ordered([reversed_order(x), place], 2, True, tuple(range(count)))
    return reversed_order(keys[..., :count]), places[..., :count]
