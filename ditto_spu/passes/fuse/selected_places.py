"""Write the gradient of a window's maximum as comparisons, and sums at public places.

JAX takes the gradient of max-pooling by `select_and_scatter`: each window's number is added where its largest
element lies. Of equal elements it is the first one. This is a part of fuse.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, splat
from ditto_spu.passes.fuse.reductions import Places, places_of

Pairs = tuple[tuple[int, int], ...]


def expand_selections(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place the selections of the largest or of the least element whose numbers are added."""
    for op in [each for each in ir.walk(ir.main(module)) if kind(each) == "select_and_scatter"]:
        if any(secret.get(each, True) for each in op.operands):
            _rewrite(op)


def _rewrite(op: ir.Op) -> None:
    value, source, start = op.operands
    select, add = (ir.ops(region.blocks[0]) for region in op.regions)
    direction = ir.comparison(select[0]) if kind(select[0]) == "compare" else ""
    if len(select) != 2 or direction not in ("GE", "LE") or [kind(each) for each in add] != ["add", "return"]:
        return
    if splat(start) != 0:
        return
    value, around = _without_infinities(value)
    shape, results = ir.shape(value), ir.shape(source)
    own = np.reshape(ir.attribute(op, "padding") or (0, 0) * len(shape), (len(shape), 2))
    sizes, strides = (
        ir.attribute(op, name) or (1,) * len(shape) for name in ("window_dimensions", "window_strides")
    )
    padding = (own + np.array(around)).tolist()
    each_dim = zip(shape, results, sizes, strides, padding, strict=True)
    places = [places_of(size, count, window, stride, 1, pad) for size, count, window, stride, pad in each_dim]
    known = tuple(each for each in places if each is not None)
    if len(known) == len(shape):
        meaning = partial(_placed, places=known, around=around, largest=direction == "GE")
        ir.rewrite(op, meaning, [value, source])


def _without_infinities(value: ir.Value) -> tuple[ir.Value, Pairs]:
    """Return the value before a padding with infinity, which is never selected, and the padding."""
    nothing = ((0, 0),) * len(ir.shape(value))
    pad = ir.define(value)
    if pad is None or kind(pad) != "pad":
        return value, nothing
    filled = splat(pad.operands[1])
    names = ("edge_padding_low", "edge_padding_high", "interior_padding")
    low, high, inner = (tuple(ir.attribute(pad, name)) for name in names)
    if filled is None or not math.isinf(filled) or any(inner) or min(*low, *high, 0) < 0:
        return value, nothing
    return pad.operands[0], tuple(zip(low, high, strict=True))


def _placed(value: Array, source: Array, places: tuple[Places, ...], around: Pairs, largest: bool) -> Array:
    """Return the sum of the numbers at the selected places, with zeros around.

    places: for each dimension, and each element of a window along it, its place for each window.
    """
    where = [np.ix_(*map(np.array, each)) for each in itertools.product(*places)]
    parts = [value[each] for each in where]
    best, later = parts[0], []
    for part in parts[1:]:
        better = part > best if largest else part < best
        best = jnp.where(better, part, best)
        later.append(better)
    total, rest = jnp.zeros_like(value), jnp.ones(source.shape, bool)
    zero = jnp.zeros((), source.dtype)
    for place, better in zip(reversed(where[1:]), reversed(later), strict=True):
        total = total.at[place].add(jnp.where(better & rest, source, zero))
        rest = rest & ~better
    total = total.at[where[0]].add(jnp.where(rest, source, zero))
    return lax.pad(total, zero, [(low, high, 0) for low, high in around])
