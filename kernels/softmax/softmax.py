"""Softmax takes a maximum, exponentials and one reciprocal per row, with a public or a secret mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ditto_kernels.inverse.by_thresholds import inverse
from ditto_kernels.maximum import tournament
from ditto_kernels.products.multiply import multiply, multiply_masked
from ditto_kernels.protocol.cost import elements
from ditto_kernels.protocol.kernel import Kernel, Spec, listed
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.casts import convert, upcast
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.softmax.approximations import (
    numerator_reference,
    puma,
    two_quad,
    two_relu,
)
from ditto_kernels.softmax.exact import (
    distance,
    exponentials,
    replicated,
)
from ditto_kernels.softmax.negative_exponential import range_variant
from ditto_kernels.softmax.plan import Plan, planned, plans
from ditto_kernels.values.absent import contiguous
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_BY_DISTANCE = ("exact", "bounded", "puma")  # Here numerators depend on max - x.


def _seen(x: Rss, source: int, target: int) -> Rss:
    """Move one dimension to another place, without a copy."""
    mine, following = (np.moveaxis(part, source, target) for part in (x.mine, x.next))
    return Rss(mine, following, x.fxp)


def _moved(x: Rss, source: int, target: int) -> Rss:
    """Move one dimension to another place."""
    seen = _seen(x, source, target)
    return Rss(contiguous(seen.mine), contiguous(seen.next), x.fxp)


def _choose(party: Party, keep: Array, x: Rss, otherwise: int) -> Rss:
    """Keep x where the PUBLIC mask is true and take a public ring element elsewhere. It is local."""
    dtype = x.fxp.dtype.type
    mine = np.where(keep, x.mine, dtype(otherwise if party.rank == 0 else 0))
    following = np.where(keep, x.next, dtype(otherwise if party.rank == 2 else 0))
    return Rss(mine, following, x.fxp)


def _numerators(party: Party, x: Rss, keep: Array | None, plan: Plan) -> Protocol[Rss]:
    """Return numerators of the approximations in the inner format. Masks are not applied yet."""
    if plan.approx == "2quad":
        return (yield from two_quad(party, x, plan.scale, plan.inner))
    if plan.approx == "2relu":
        return (yield from two_relu(party, x, plan.scale, plan.inner))
    apart = yield from distance(party, x, keep, plan)
    return (yield from puma(party.at("puma"), apart, abs(plan.scale), plan.inner))


def _apply_secret_mask(party: Party, x: Rss, mask: Rss, plan: Plan) -> Protocol[Rss]:
    """Compute m (x + lift), with which kept scores lie far above 0 and masked ones are 0.

    A row without kept scores becomes uniform.
    """
    bits = Fxp(plan.fxp.ring_bits, 0)
    keep = Rss(mask.mine.astype(bits.dtype), mask.next.astype(bits.dtype), bits)
    sign = -1 if plan.scale < 0 else 1
    return (yield from multiply(party, plus_constant(party, x, sign * plan.lift), keep, plan.fxp))


def _run(
    party: Party, x: Rss, mask: Rss | Array | None = None, *, out: Fxp, dim: int = -1, **attributes: Any
) -> Protocol[Rss]:
    """Compute softmax(scale * x) over `dim`. The attributes after `dim` are those of `plan_softmax`.

    - mask: None, a public boolean array (broadcast to x), or an Rss of 0/1 integers of x's shape. Entries
      that are 0 get probability 0. A row without any 1 gets 1/n everywhere.
    - scale: a public factor.
    - approx: "exact", "bounded" (no maximum is taken, because `range` stands for it), "puma", "2quad" or
      "2relu".
    - inner: the format of numerators and row sums. The default is fxp64.22; fxp32.14 is cheaper and coarser,
      and fxp64.18 is Ditto's.
    - range: a declared bound of |x|, with which the maximum can be taken in a smaller ring.
    - denominator, epsilon: attributes of 2quad and 2relu.

    Range: |x| <= `largest_score`. A score that is further below the row's maximum than the window (some 21
    units of base 2) becomes 0, up to `Window.error`. Error: see `_error`.

    Security: that of the parts. Only shapes and public masks are public.
    """
    secret = isinstance(mask, Rss)
    plan = planned(x.shape, x.fxp, out, party.worth, dim=dim, secret_mask=secret, **attributes)
    by_distance = plan.approx in _BY_DISTANCE and not secret
    value = _seen(x, dim, 0) if by_distance else _moved(x, dim, 0)  # A distance sums first.
    keep = None
    if isinstance(mask, Rss):
        mask = _moved(mask, dim, 0)
        if plan.approx in _BY_DISTANCE:
            value = yield from _apply_secret_mask(party.at("mask"), value, mask, plan)
    elif mask is not None:
        keep = np.moveaxis(np.broadcast_to(mask.astype(bool), x.shape), dim, 0)
    if plan.scale < 0 and plan.approx in _BY_DISTANCE:
        value = plus_constant(party, value, 0, -1)
    if plan.window is not None:
        numerators, reciprocals = yield from _exact(party, value, keep, plan)
    else:
        numerators = yield from _approximate(party, value, mask, keep, plan)
        reciprocals = yield from inverse(party.at("inverse"), _sums(numerators), plan.inverse, plan.inverted)
    result = yield from _quotient(party, numerators, reciprocals, plan, out)
    if keep is not None:
        result = _choose(party, keep | ~keep.any(axis=0), result, 0)
    return _moved(result, 0, dim)


def _exact(party: Party, x: Rss, keep: Array | None, plan: Plan) -> Protocol[list[Rss]]:
    """Return (numerators, reciprocals of their sums), with masks applied."""
    values, sums = yield from exponentials(party.at("numerators"), x, keep, plan)
    replication = replicated(party.at("replicate"), values, plan)
    if sums is not None:
        inversion = inverse(party.at("inverse"), sums, plan.inverse, plan.inverted)
        return (yield from parallel(replication, inversion))
    numerators = yield from replication
    reciprocals = yield from inverse(party.at("inverse"), _sums(numerators), plan.inverse, plan.inverted)
    return [numerators, reciprocals]


def _approximate(
    party: Party, x: Rss, mask: Rss | Array | None, keep: Array | None, plan: Plan
) -> Protocol[Rss]:
    """Return numerators of the approximations, with masks and floor applied."""
    numerators = yield from _numerators(party.at("numerators"), x, keep, plan)
    if isinstance(mask, Rss) and plan.approx in ("2quad", "2relu"):
        wide = yield from _integer_mask(party.at("widen_mask"), mask)
        numerators = yield from multiply(party.at("mask"), numerators, wide, plan.inner)
    if plan.floor:
        numerators = plus_constant(
            party, numerators, max(1, round(plan.floor * 2.0**plan.inner.fraction_bits))
        )
    if keep is not None:
        numerators = _choose(party, keep, numerators, 0)
        numerators = _choose(party, keep.any(axis=0), numerators, 1 << plan.inner.fraction_bits)
    return numerators


def _sums(numerators: Rss) -> Rss:
    mine, following = (
        part.sum(axis=0, dtype=numerators.fxp.dtype) for part in (numerators.mine, numerators.next)
    )
    return Rss(mine, following, numerators.fxp)


def _integer_mask(party: Party, mask: Rss) -> Protocol[Rss]:
    if mask.fxp.ring_bits == 64:
        return mask.retagged(Fxp(64, 0))
    return (yield from upcast(party, mask.retagged(Fxp(mask.fxp.ring_bits, 0)), 64))


def _landed(plan: Plan, out: Fxp) -> tuple[Fxp, tuple[float, float] | None]:
    """Return (format of the last product, its range if that lets it be lifted straight to `out`)."""
    small = plan.landing
    if small.ring_bits < out.ring_bits == plan.inner.ring_bits and small.fraction_bits == out.fraction_bits:
        return out, (-_below_zero(plan) * out.ulp, 1.05)
    return small, None


def _below_zero(plan: Plan) -> int:
    """Return the number of ulp of the last product by which rounding may bring a probability below zero."""
    numerator = 0.0 if plan.window is None else plan.window.error
    return 4 + math.ceil(numerator / plan.lowest / plan.landing.ulp)


def _quotient(party: Party, numerators: Rss, reciprocals: Rss, plan: Plan, out: Fxp) -> Protocol[Rss]:
    """Return probabilities: the last product in the format of `plan.landing`, cast to the output's format."""
    landing, values = _landed(plan, out)
    # After an exponential and an inverse the dealer has masks alone. Other numerators are products.
    times = multiply if plan.window is None else multiply_masked
    product = yield from times(party.at("divide"), numerators, reciprocals, landing, values)
    if landing.ring_bits < out.ring_bits and landing.fraction_bits == out.fraction_bits:
        # Only rounding can make it negative, and 1.0 may lie beyond the range of the default bias.
        return (yield from upcast(party.at("cast"), product, out.ring_bits, bias=_below_zero(plan)))
    return (yield from convert(party.at("cast"), product, out))


def _variant(
    x: Spec, mask: Spec | None = None, *, out: Fxp, worth: int, dim: int = -1, **attributes: Any
) -> str:
    assert x.fxp is not None
    secret = mask is not None and mask.fxp is not None
    plan = planned(x.shape, x.fxp, out, worth, dim=dim, secret_mask=secret, **attributes)
    rows, taken = elements(plan.rows), plan.approx in ("exact", "puma")
    maximum = "by counts" if plan.counts(worth) else tournament.variant(plan.length, rows, worth)
    return listed(
        maximum if taken else "",
        range_variant(plan.window, plan.fxp.ring_bits, elements(x.shape), worth)
        if plan.window is not None
        else "",
        plan.inverse.variant(rows, worth),
    )


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
    assert x.fxp is not None
    secret = mask is not None and mask.fxp is not None
    return max(
        _plan_error(plan, out)
        for plan in plans(x.shape, x.fxp, out, dim=dim, secret_mask=secret, **attributes)
    )


def _plan_error(plan: Plan, out: Fxp) -> float:
    """Add up the errors of the numerators, of their sum, of the reciprocal, and of the last rounding."""
    last = 1.5 * (plan.landing.ulp + (out.ulp if plan.landing.fraction_bits > out.fraction_bits else 0))
    # Exponentials are at most 1, as probabilities are. The numerators of approximations may be larger.
    last += plan.inverse.unit_error if plan.window is not None else plan.inverse.error
    last += 1.5 * plan.inverted.ulp * plan.length
    step = plan.inner.ulp
    if plan.window is not None:
        # Rounding errors are centred and independent. Masks are uniform over the window, and a factor's error
        # halves with every unit of base 2. So six standard deviations of a sum are 3 sqrt(n / window) times
        # the largest error.
        sums = 3 * math.sqrt(plan.length / max(1.0, plan.window.length)) * plan.window.factor_error
        sums += step if plan.summed is not None else 3 * math.sqrt(plan.length) * plan.window.out.ulp
        return min(1.0, (plan.window.error + sums + plan.lost) * 0.9 / plan.lowest + last)
    if plan.approx == "puma":
        return min(1.0, 96 * step * (1 + plan.length) * 0.9 / plan.lowest + last)
    operand = 1.5 * step + 2.0**-14
    if plan.approx == "2quad":
        numerators = 4 * operand * math.sqrt(plan.length / plan.lowest)
    else:
        numerators = operand * (1 + plan.length) / plan.lowest
    if plan.secret_mask:
        numerators += plan.floor * plan.length / plan.lowest
    return min(1.0, numerators + 2 * step * plan.length / plan.lowest + last)


_PAPER = "own; approximations of PUMA (arXiv 2307.12533) and MPCFormer (arXiv 2211.01452)"
SOFTMAX = Kernel("softmax", _run, _reference, _error, _PAPER, along="dim", variant=_variant)
