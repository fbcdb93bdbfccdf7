"""Compute exact softmax up to the division: row maxima, distances, exponentials and row sums."""

from __future__ import annotations

import numpy as np

from ditto_kernels.maximum.by_counts import largest_by_counts
from ditto_kernels.maximum.maximum import choose
from ditto_kernels.maximum.operands import constant
from ditto_kernels.maximum.tournament import tournament
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, to_rss
from ditto_kernels.sharing.casts import upcast
from ditto_kernels.softmax.negative_exponential import exp_products, rounded
from ditto_kernels.softmax.plan import Plan
from ditto_kernels.values.absent import contiguous
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


def _row_maximum(party: Party, x: Additive, keep: Array | None, plan: Plan) -> Protocol[Additive]:
    """Return the largest kept score of each row, in x's format.

    With the coarse offset no score exceeds it.
    """
    value = x
    if plan.coarse is not None:
        grid = Additive(x.share, Fxp(x.fxp.ring_bits, plan.coarse.drop))
        value = rounded(party, grid, Fxp(plan.coarse.ring, 0))
    if plan.coarse is not None and plan.counts(party.worth):
        best = yield from largest_by_counts(party.at("counts"), value, plan.coarse.reach, keep)
    else:
        if keep is not None:
            value = choose(party, keep, value, -(1 << (value.fxp.ring_bits - 2)))
        best = yield from tournament(party.at("tournament"), value)
    if plan.coarse is None:
        return best
    if plan.coarse.widens:
        best = from_rss(party, (yield from upcast(party.at("widen"), best, plan.fxp.ring_bits)))
    share = best.share.astype(plan.fxp.dtype) << plan.fxp.dtype.type(plan.coarse.drop)
    if party.role == "A":
        share = share + plan.fxp.dtype.type(plan.coarse.offset)
    return Additive(share, plan.fxp)


def distance(party: Party, x: Rss, keep: Array | None, plan: Plan) -> Protocol[Additive]:
    """Return max - x in 2-of-2 shares. It is never negative."""
    value = from_rss(party, x)
    value = Additive(contiguous(value.share), value.fxp)
    if plan.bound is not None:
        best = constant(party, np.full(x.shape[1:], plan.bound, plan.fxp.dtype), plan.fxp)
    else:
        best = yield from _row_maximum(party.at("maximum"), value, keep, plan)
    return Additive(best.share - value.share, value.fxp)


def exponentials(
    party: Party, x: Rss, keep: Array | None, plan: Plan
) -> Protocol[tuple[Additive, Additive | None]]:
    """Return (numerators, row sums) in 2-of-2 shares.

    Numerators are 0 where the public mask excludes them. In a row that it excludes altogether they are all 1.
    Row sums are taken before numerators are rounded, where their format admits it. Otherwise they are None.
    """
    assert plan.window is not None
    apart = yield from distance(party, x, keep, plan)
    product = yield from exp_products(party.at("exp"), apart, plan.window)
    if keep is not None:
        one = np.int64(1 << product.fxp.fraction_bits)
        product = choose(party, keep, product, np.where(keep.any(axis=0), np.int64(0), one))
    values = rounded(party, product, plan.window.out)
    if plan.summed is None:
        return values, None
    sums = Additive(product.share.sum(axis=0, dtype=np.int64), product.fxp)
    return values, rounded(party, sums, plan.summed)


def replicated(party: Party, x: Additive, plan: Plan) -> Protocol[Rss]:
    """Return numerators as replicated shares in the ring of `plan.inner`."""
    assert plan.window is not None
    if x.fxp.ring_bits == plan.inner.ring_bits:
        return (yield from to_rss(party, x))
    # Only rounding can make a numerator negative.
    return (yield from upcast(party, x, plan.inner.ring_bits, bias=plan.window.below_zero + 2))
