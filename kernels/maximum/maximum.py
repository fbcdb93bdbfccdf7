"""Maxima and minima are kernels of two kinds: elementwise, and along a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ditto_kernels.maximum.operands import joint_format, operand
from ditto_kernels.maximum.tournament import larger, tournament, variant
from ditto_kernels.protocol.cost import elements
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, to_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.absent import contiguous
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


def choose(party: Party, keep: Array, x: Additive, otherwise: int | Array) -> Additive:
    """Keep x where the PUBLIC mask is true and take public ring elements elsewhere. It is local."""
    fill = otherwise if party.role == "A" else 0
    if isinstance(fill, int):
        fill = x.fxp.dtype.type(fill)
    return Additive(np.where(keep, x.share, fill), x.fxp)


def axis_first(x: Additive, dim: int) -> Additive:
    """Move the reduced axis to the front, where the halves of a level are contiguous."""
    dim %= len(x.shape)
    return Additive(contiguous(np.moveaxis(x.share, dim, 0)), x.fxp)


def _run_maximum(party: Party, x: Rss | Array, y: Rss | Array, out: Fxp) -> Protocol[Rss]:
    """Compute the elementwise maximum of two shared values of one format, or of a shared and a public one.

    Range: |x - y| < 2^(k-1) ulp. Error: none but that of the cast to `out`. Raises ValueError if no operand
    is shared or if the formats of shared operands differ. Security: see `signs` and `multiply_bits`.
    """
    fxp, shape = joint_format(x, y), np.broadcast_shapes(x.shape, y.shape)
    left, right = (operand(party, value, fxp, shape) for value in (x, y))
    best = yield from larger(party.at("larger"), left, right)
    joined = yield from to_rss(party, best)
    return (yield from convert(party.at("cast"), joined, out))


def _run_minimum(party: Party, x: Rss | Array, y: Rss | Array, out: Fxp) -> Protocol[Rss]:
    """Elementwise minimum: x + y less the maximum. Range, error and security: as of `maximum`."""
    fxp, shape = joint_format(x, y), np.broadcast_shapes(x.shape, y.shape)
    left, right = (operand(party, value, fxp, shape) for value in (x, y))
    best = yield from larger(party.at("larger"), left, right)
    least = Additive(left.share + right.share - best.share, fxp)
    joined = yield from to_rss(party, least)
    return (yield from convert(party.at("cast"), joined, out))


def _run_reduce_min(party: Party, x: Rss, out: Fxp, dim: int = -1) -> Protocol[Rss]:
    """Minimum over one dimension, which is dropped: the negated maximum of -x.

    Range, error and security: as of `reduce_max`.
    """
    lowest = yield from _run_reduce(party, Rss(-x.mine, -x.next, x.fxp), out, dim)
    return Rss(-lowest.mine, -lowest.next, out)


def _run_reduce(party: Party, x: Rss, out: Fxp, dim: int = -1, mask: Array | None = None) -> Protocol[Rss]:
    """Compute the maximum over one dimension, which is dropped from the shape.

    Entries that the public `mask` excludes count as the lowest value. Range: |x| < 2^(k-2) ulp. Error: none
    but that of the cast to `out`. Security: that of `tournament`.
    """
    value = from_rss(party, x)
    if mask is not None:
        value = choose(party, np.broadcast_to(mask, x.shape), value, -(1 << (x.fxp.ring_bits - 2)))
    best = yield from tournament(party.at("tournament"), axis_first(value, dim))
    joined = yield from to_rss(party, best)
    return (yield from convert(party.at("cast"), joined, out))


def dropped(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    """Return the shape without one dimension."""
    dim %= len(shape)
    return (*shape[:dim], *shape[dim + 1 :])


def _reduce_reference(x: Array, dim: int = -1, mask: Array | None = None) -> Array:
    return np.max(np.asarray(x) if mask is None else np.where(mask, x, -np.inf), axis=dim)


def _reduce_min_reference(x: Array, dim: int = -1) -> Array:
    return np.min(np.asarray(x), axis=dim)


def cast_error(source: Fxp | None, out: Fxp) -> float:
    """Bound the error of the last cast."""
    return 1.5 * out.ulp if source is None or source.fraction_bits > out.fraction_bits else 0.0


def _maximum_error(x: Spec, y: Spec, out: Fxp) -> float:
    fxp = x.fxp or y.fxp
    assert fxp is not None
    return cast_error(fxp, out) + (0.0 if x.fxp and y.fxp else fxp.ulp / 2)


def _reduce_error(x: Spec, out: Fxp, **_: Any) -> float:
    return cast_error(x.fxp, out)


def _reduce_variant(x: Spec, out: Fxp, worth: int, dim: int = -1, **_: Any) -> str:
    return variant(x.shape[dim], elements(dropped(x.shape, dim)), worth)


_PAPER = "PUMA, arXiv 2307.12533 (tournament); masked comparison as in Rabbit, ePrint 2021/119"
MAXIMUM = Kernel("maximum", _run_maximum, np.maximum, _maximum_error, _PAPER)
MINIMUM = Kernel("minimum", _run_minimum, np.minimum, _maximum_error, _PAPER, elementwise=True)
REDUCE_MIN = Kernel(
    "reduce_min",
    _run_reduce_min,
    _reduce_min_reference,
    _reduce_error,
    _PAPER,
    variant=_reduce_variant,
)
REDUCE_MAX = Kernel(
    "reduce_max", _run_reduce, _reduce_reference, _reduce_error, _PAPER, variant=_reduce_variant
)
