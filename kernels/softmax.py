"""Softmax over one dimension: maximum, exponential, one reciprocal a row; masks public or secret."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ditto_kernels.additive import Additive, from_rss, to_rss
from ditto_kernels.cost import Cost, elements, exchanged
from ditto_kernels.exponential import exp_negative, exp_negative_cost
from ditto_kernels.inverse import inverse, inverse_cost, plus_constant
from ditto_kernels.kernel import Kernel, Spec
from ditto_kernels.maximum import choose, constant, shared
from ditto_kernels.multiply import finish_cost, multiply, multiply_cost
from ditto_kernels.party import Party, Protocol
from ditto_kernels.ring import Array, Fxp
from ditto_kernels.rss import Rss
from ditto_kernels.softmax_approximations import (
    numerator_cost,
    numerator_reference,
    puma,
    two_quad,
    two_relu,
)
from ditto_kernels.softmax_plan import Coarse, Plan, plan
from ditto_kernels.tournament import tournament, tournament_cost
from ditto_kernels.truncate import convert, convert_cost, narrow, upcast, upcast_cost


def _moved(x: Rss, source: int, target: int) -> Rss:
    """One dimension moved to another place."""
    mine, following = (
        np.ascontiguousarray(np.moveaxis(np.asarray(part), source, target)) for part in (x.mine, x.next)
    )
    return Rss(mine, following, x.fxp)


def _choose(party: Party, keep: Array, x: Rss, otherwise: int) -> Rss:
    """x where the PUBLIC mask says so, else a public ring element: local."""
    dtype = x.fxp.dtype.type
    mine = np.where(keep, x.mine, dtype(otherwise if party.rank == 0 else 0))
    following = np.where(keep, x.next, dtype(otherwise if party.rank == 2 else 0))
    return Rss(mine, following, x.fxp)


def _minus(x: Additive, y: Additive) -> Additive:
    return Additive(None if x.share is None else x.share - y.share, y.shape, y.fxp)


def _coarsened(x: Additive, how: Coarse, leader: bool) -> Additive:
    """x on the grid of the tournament: local."""
    fxp = Fxp(how.ring, 0)
    if x.share is None:
        return Additive(None, x.shape, fxp)
    return Additive(narrow(x.share, how.drop, how.ring, how.offset if leader else 0), x.shape, fxp)


def _row_maximum(party: Party, x: Additive, keep: Array | None, how: Plan) -> Protocol[Additive]:
    """The largest kept score of each row, in x's format; with the coarse offset no score exceeds it."""
    value = x if how.coarse is None else _coarsened(x, how.coarse, party.role == "A")
    if keep is not None:
        value = choose(party, keep, value, -(1 << (value.fxp.ring_bits - 2)))
    best = yield from tournament(party.at("tournament"), value)
    if how.coarse is None:
        return best
    if how.coarse.widens:
        best = from_rss(party, (yield from upcast(party.at("widen"), best, how.fxp.ring_bits)))
    if best.share is None:
        return Additive(None, best.shape, how.fxp)
    share = best.share.astype(how.fxp.dtype) << how.fxp.dtype.type(how.coarse.drop)
    if party.role == "A":
        share = share + how.fxp.dtype.type(how.coarse.offset)
    return Additive(share, best.shape, how.fxp)


def _distance(party: Party, x: Rss, keep: Array | None, how: Plan) -> Protocol[Additive]:
    """max - x in 2-of-2 shares, never negative."""
    value = shared(party, x)
    if how.bound is not None:
        bound = np.full(x.shape[1:], how.bound, how.fxp.dtype)
        return _minus(constant(party, bound, how.fxp), value)
    best = yield from _row_maximum(party.at("maximum"), value, keep, how)
    return _minus(best, value)


def _numerators(party: Party, x: Rss, keep: Array | None, how: Plan) -> Protocol[Rss]:
    """Numerators in the inner format, masked ones not yet removed."""
    if how.approx == "2quad":
        return (yield from two_quad(party, x, how.scale, how.inner))
    if how.approx == "2relu":
        return (yield from two_relu(party, x, how.scale, how.inner))
    if how.scale < 0:
        x = plus_constant(party, x, 0, -1)
    distance = yield from _distance(party, x, keep, how)
    if how.window is None:
        return (yield from puma(party.at("puma"), distance, abs(how.scale), how.inner))
    value = yield from exp_negative(party.at("exp"), distance, how.window)
    if how.inner.ring_bits == 32:
        return (yield from to_rss(party.at("replicate"), value))
    return (yield from upcast(party.at("replicate"), value, 64, bias=2))  # positive but for rounding


def _apply_secret_mask(party: Party, x: Rss, mask: Rss, how: Plan) -> Protocol[Rss]:
    """m (x + lift): kept scores far above 0, masked ones 0; a row without kept scores becomes uniform."""
    bits = Fxp(how.fxp.ring_bits, 0)
    keep = Rss(np.asarray(mask.mine).astype(bits.dtype), np.asarray(mask.next).astype(bits.dtype), bits)
    sign = -1 if how.scale < 0 else 1
    return (yield from multiply(party, plus_constant(party, x, sign * how.lift), keep, how.fxp))


def _run(
    party: Party, x: Rss, mask: Rss | Array | None = None, *, out: Fxp, dim: int = -1, **attributes: Any
) -> Protocol[Rss]:
    """softmax(scale * x) over `dim`; the attributes after `dim` are those of `plan`.

    mask: None, a public boolean array (broadcast to x), or an Rss of 0/1 integers of x's shape; entries that
    are 0 get probability 0, a row without any 1 gets 1/n everywhere. scale: public factor. approx: "exact",
    "bounded" (no maximum: `range` stands for it), "puma", "2quad", "2relu". inner: format of numerators and
    row sums (default fxp64.22; fxp32.14 is cheaper and coarser; fxp64.18 is Ditto's). range: declared |x|,
    which lets the maximum be taken in a smaller ring. denominator, epsilon: of 2quad and 2relu. Range: |x| <=
    `largest_score`; a score further than the window (about 16 base-2 units) below the row's maximum becomes
    exactly 0. Error: see `error`. Security: as of the parts; masks and shapes only are public.
    """
    secret = isinstance(mask, Rss)
    how = plan(x.shape, x.fxp, out, dim=dim, secret_mask=secret, **attributes)
    value = _moved(x, dim, 0)
    keep = None
    if isinstance(mask, Rss):
        mask = _moved(mask, dim, 0)
        if how.approx in ("exact", "puma"):
            value = yield from _apply_secret_mask(party.at("mask"), value, mask, how)
    elif mask is not None:
        keep = np.moveaxis(np.broadcast_to(np.asarray(mask, dtype=bool), x.shape), dim, 0)
    numerators = yield from _numerators(party.at("numerators"), value, keep, how)
    if isinstance(mask, Rss) and how.approx in ("2quad", "2relu"):
        wide = yield from _integer_mask(party.at("widen_mask"), mask)
        numerators = yield from multiply(party.at("mask"), numerators, wide, how.inner)
    if how.floor:
        numerators = plus_constant(party, numerators, max(1, round(how.floor * 2.0**how.inner.fraction_bits)))
    if keep is not None:
        empty = ~keep.any(axis=0)
        numerators = _choose(party, keep, numerators, 0)
        if empty.any():
            numerators = _choose(party, ~empty, numerators, 1 << how.inner.fraction_bits)
            keep = keep | empty
    dtype = how.inner.dtype
    sums = Rss(
        np.asarray(numerators.mine).sum(axis=0, dtype=dtype),
        np.asarray(numerators.next).sum(axis=0, dtype=dtype),
        how.inner,
    )
    reciprocals = yield from inverse(party.at("inverse"), sums, how.inverse, how.inverted)
    product = yield from multiply(party.at("divide"), numerators, reciprocals, how.landing)
    if keep is not None:
        product = _choose(party, keep, product, 0)
    result = yield from _cast(party.at("cast"), product, out)
    return _moved(result, 0, dim)


def _integer_mask(party: Party, mask: Rss) -> Protocol[Rss]:
    if mask.fxp.ring_bits == 64:
        return mask.retagged(Fxp(64, 0))
    return (yield from upcast(party, mask.retagged(Fxp(mask.fxp.ring_bits, 0)), 64))


def _cast(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    if x.fxp.ring_bits < out.ring_bits and x.fxp.fraction_bits == out.fraction_bits:
        # probabilities are positive but for rounding, and 1.0 may lie beyond what the default bias admits
        return (yield from upcast(party, x, out.ring_bits, bias=4))
    return (yield from convert(party, x, out))


def _cost(x: Spec, mask: Spec | None = None, *, out: Fxp, dim: int = -1, **attributes: Any) -> Cost:
    assert x.fxp is not None
    secret = mask is not None and mask.fxp is not None
    how = plan(x.shape, x.fxp, out, dim=dim, secret_mask=secret, **attributes)
    count, rows, ring = elements(x.shape), elements(how.rows), how.fxp.ring_bits
    cost = Cost()
    if how.approx in ("exact", "bounded", "puma"):
        if secret:
            cost = finish_cost(count, ring, 0, how.fxp)
        if how.bound is not None:
            pass
        elif how.coarse is None:
            cost = cost + tournament_cost(how.length, rows, ring)
        else:
            cost = cost + tournament_cost(how.length, rows, how.coarse.ring)
            if how.coarse.widens:
                cost = cost + upcast_cost(rows, how.coarse.ring, ring)
    if how.window is not None:
        cost = cost + exp_negative_cost(count, ring, how.window)
        cost = cost + (exchanged(count, 32) if how.inner.ring_bits == 32 else upcast_cost(count, 32, 64))
    else:
        cost = cost + numerator_cost(how.approx, count, how.fxp, how.inner)
        if secret and how.approx != "puma":
            assert mask is not None and mask.fxp is not None
            if mask.fxp.ring_bits < 64:
                cost = cost + upcast_cost(count, mask.fxp.ring_bits, 64)
            cost = cost + finish_cost(count, 64, 0, how.inner)
    cost = cost + inverse_cost(how.rows, how.inner.ring_bits, how.inverse, how.inverted)
    shape = (how.length, *how.rows)
    cost = cost + multiply_cost(shape, how.inner, how.inverted, how.landing)
    return cost + convert_cost(shape, how.landing, out)


def _reference(
    x: Array,
    mask: Array | None = None,
    *,
    dim: int = -1,
    scale: float = 1.0,
    approx: str = "exact",
    epsilon: float = 0.01,
    **_: Any,
) -> Array:
    scores = scale * np.asarray(x, dtype=np.float64)
    keep = (
        np.ones(scores.shape, bool) if mask is None else np.broadcast_to(np.asarray(mask) != 0, scores.shape)
    )
    best = np.max(np.where(keep, scores, -np.inf), axis=dim, keepdims=True)
    distance = np.where(np.isfinite(best), best, 0) - scores
    values = numerator_reference(approx, np.where(keep, distance, 0), scores)
    values = values + (epsilon / scores.shape[dim] if approx == "2relu" else 0)
    empty = ~keep.any(axis=dim, keepdims=True)
    values = np.where(empty, 1.0, np.where(keep, values, 0.0))
    return values / values.sum(axis=dim, keepdims=True)


def _error(x: Spec, mask: Spec | None = None, *, out: Fxp, dim: int = -1, **attributes: Any) -> float:
    """Of the numerators, of their sum, of the reciprocal, and of the last rounding."""
    assert x.fxp is not None
    secret = mask is not None and mask.fxp is not None
    how = plan(x.shape, x.fxp, out, dim=dim, secret_mask=secret, **attributes)
    last = 1.5 * (how.landing.ulp + (out.ulp if how.landing.fraction_bits > out.fraction_bits else 0))
    last += how.inverse.error + 1.5 * how.inverted.ulp * how.length
    step = how.inner.ulp
    if how.window is not None:
        # rounding is centred and independent: a sum of n stays within 3 sqrt(n) of the largest error
        largest = how.window.error * (1 + 3 * math.sqrt(how.length))
        return min(1.0, (largest + how.lost) * 0.9 / how.lowest + last)
    if how.approx == "puma":
        return min(1.0, 96 * step * (1 + how.length) * 0.9 / how.lowest + last)
    operand = 1.5 * step + 2.0**-14
    if how.approx == "2quad":
        numerators = 4 * operand * math.sqrt(how.length / how.lowest)
    else:
        numerators = operand * (1 + how.length) / how.lowest
    if how.secret_mask:
        numerators += how.floor * how.length / how.lowest
    return min(1.0, numerators + 2 * step * how.length / how.lowest + last)


_PAPER = "own; approximations of PUMA (arXiv 2307.12533) and MPCFormer (arXiv 2211.01452)"
SOFTMAX = Kernel("softmax", _run, _reference, _cost, _error, _PAPER, along="dim")
