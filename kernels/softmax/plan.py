"""A plan holds the public decisions of one softmax, made from shapes and attributes alone.

They are formats, a window and thresholds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from ditto_kernels.inverse.by_thresholds import Table, fit_table
from ditto_kernels.maximum import by_counts
from ditto_kernels.maximum.maximum import dropped
from ditto_kernels.products.multiply import finish_kind
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.softmax.negative_exponential import Window, fit_window
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Fxp

Approximation = Literal["exact", "bounded", "puma", "2quad", "2relu"]
INNER = {
    "exact": Fxp(64, 22),
    "bounded": Fxp(64, 28),
    "puma": Fxp(64, 18),
    "2quad": Fxp(64, 18),
    "2relu": Fxp(64, 18),
}
_LOG2_E = math.log2(math.e)
_PRECISION = {32: 9, 64: 13}  # The bits that the smallest reciprocal should have, by ring.
_SHORT = 16  # the fraction bits of few numerators and of the reciprocal of their sum, each at least
_MARGIN = 2  # Scores may pass a declared range by so many ulp, because a cast rounds.
_DEEPEST = 12.0  # A row of many scores so many nats below its bound is still right to 0.003.
_SLACK = 1.0  # A coarse maximum may shrink the numerators of a row by e^-1.


@dataclass(frozen=True)
class Coarse:
    """The grid of a tournament: x / 2^drop in a ring of `ring` bits.

    Two shares are shifted, so that a coarse score is off by less than one step of 2^drop ulp. Coarse scores
    then differ by less than half their ring if 2 |x| <= (2^(ring-1) - 2) steps.
    """

    ring: int
    drop: int
    widens: bool  # whether an upcast is needed, as its shares times 2^drop are not yet shares in x's ring
    reach: int  # the largest magnitude of a coarse score

    @property
    def offset(self) -> int:
        """The number of ulp that is added to max - x.

        With it nothing is negative, and the distance of the largest score is between 0 and twice the offset.
        """
        return (1 << self.drop) - 1


@dataclass(frozen=True)
class Plan:
    """The decisions that the protocol and its cost follow."""

    approx: Approximation
    length: int
    rows: tuple[int, ...]
    scale: float
    fxp: Fxp
    inner: Fxp  # the format of numerators
    bound: int | None  # stands for the maximum of every row, in ulp
    coarse: Coarse | None  # the grid of the tournament, if its ring is smaller than x's
    window: Window | None
    summed: Fxp | None  # the format of row sums, if they are taken before the numerators are rounded
    inverse: Table
    inverted: Fxp  # the format of reciprocal row sums
    landing: Fxp  # the format of the last product, before the cast to the output format
    epsilon: float  # used by 2relu
    secret_mask: bool
    lowest: float  # the least sum of numerators
    lost: float  # bounds the sum of numerators beyond the window

    @property
    def lift(self) -> int:
        """The number that is added to kept scores under a secret mask, which makes masked scores 0."""
        return 1 << (self.fxp.ring_bits - 2)

    @property
    def floor(self) -> float:
        """The number that is added to every numerator.

        It is 2relu's epsilon, or makes a row uniform that a secret mask empties.
        """
        if self.approx == "2relu":
            return self.epsilon / self.length
        return 1.2 * self.lowest / self.length if self.approx == "2quad" and self.secret_mask else 0.0

    def counts(self, worth: int) -> bool:
        """Return whether the maximum of few entries is found by counts."""
        coarse = self.coarse
        if coarse is None or coarse.ring != by_counts.RING:
            return False
        return by_counts.serves(self.length, math.prod(self.rows), coarse.reach, worth)


def planned(shape: tuple[int, ...], fxp: Fxp, out: Fxp, worth: int, **attributes: Any) -> Plan:
    """Return the plan where a saved round is worth so many bytes: the short one for few numerators.

    Numerators of ring 32 are then brought into ring 64 beside the inverse of their sum. They and the inverse
    have so few bits that neither the inverse nor the last product needs a truncation, which saves a round.
    """
    *usual, last = plans(shape, fxp, out, **attributes)
    few = math.prod(shape) <= limit(tuning.SHORT_NUMERATORS, worth)
    serves = few and last.inverse.few_of(math.prod(last.rows), worth) is not None
    return last if serves or not usual else usual[0]


def plans(shape: tuple[int, ...], fxp: Fxp, out: Fxp, **attributes: Any) -> tuple[Plan, ...]:
    """Return the plan for many numerators and, if there is one, that for few."""
    plan = plan_softmax(shape, fxp, out, **attributes)
    if plan.approx != "exact" or {plan.inner.ring_bits, out.ring_bits} != {32}:
        return (plan,)
    short = _short(shape, fxp, out, **attributes)
    return (plan,) if short is None else (plan, short)


@lru_cache(maxsize=64)
def _short(shape: tuple[int, ...], fxp: Fxp, out: Fxp, **attributes: Any) -> Plan | None:
    """Return the plan with short numerators, or None if too few bits are left."""
    try:
        short = plan_softmax(shape, fxp, out, **attributes, short=True)
    except ValueError:
        return None
    return short if short.summed is not None and short.landing == out else None


def _coarse(fxp: Fxp, scale: float, reach: float | None) -> Coarse | None:
    """Return the grid in the smallest ring for the tournament that costs a row little, for |x| <= reach."""
    for ring in (8, 16, 32):
        if reach is None or ring >= fxp.ring_bits:
            break
        steps = 2.0 ** (ring - 1) - 2
        least = max(0, math.ceil(portable.log2(2 * (reach / fxp.ulp + _MARGIN) / steps)))
        most = fxp.ring_bits - ring
        for drop in dict.fromkeys((most, least)):  # the coarsest grid saves the upcast
            farthest = math.ceil((reach / fxp.ulp + _MARGIN) / 2.0**drop)
            coarse = Coarse(ring, drop, drop < most, farthest)
            if least <= most and scale * 2 * coarse.offset * fxp.ulp <= _SLACK:
                return coarse
    return None


def _bound(fxp: Fxp, scale: float, reach: float | None, secret_mask: bool) -> tuple[int, float]:
    """Return (the number that stands for the maximum, in ulp; the least sum of numerators).

    It holds for |x| <= reach. Raises ValueError without a declared range, with a secret mask, and for a range
    whose lowest rows would be lost.
    """
    if reach is None or secret_mask:
        raise ValueError("softmax 'bounded' needs the declared `range` of its scores, and no secret mask")
    if 2 * scale * reach > _DEEPEST:
        raise ValueError(
            f"softmax 'bounded': a row of scores near -{scale * reach:g} would be lost below the bound "
            f"{scale * reach:g}; declare a range of at most {_DEEPEST / 2 / scale:g}, or take 'exact'"
        )
    bound = math.ceil(reach / fxp.ulp) + _MARGIN
    return bound, 0.9 * portable.exp(-scale * 2 * bound * fxp.ulp)


def _landing(inner: Fxp, out: Fxp, needed: int) -> tuple[Fxp, int]:
    """Return (format of the last product, fraction bits of the reciprocal). A probability of 1 must fit."""
    ring = inner.ring_bits
    choices = []
    if out.ring_bits < ring and out.fraction_bits <= out.ring_bits - 2:
        choices.append((out, min(ring - 2, ring - out.ring_bits + out.fraction_bits)))
    if ring == out.ring_bits == 32 and out.fraction_bits <= 14:
        choices.append((Fxp(16, out.fraction_bits), min(ring - 2, 16 + out.fraction_bits)))
    choices.append((Fxp(ring, min(out.fraction_bits, ring - 8)), ring - 3))
    for landing, total in choices:
        bits = total - inner.fraction_bits
        if bits >= needed and finish_kind_fits(ring, total - landing.fraction_bits, landing):
            return landing, min(bits, needed + 4)
    return choices[-1][0], choices[-1][1] - inner.fraction_bits


def finish_kind_fits(ring: int, dropped_bits: int, landing: Fxp) -> bool:
    """Return whether a product that drops so many bits reaches `landing` in one step."""
    if dropped_bits < 0:
        return False
    return landing.ring_bits == ring or finish_kind(ring, dropped_bits, landing) == "narrow"


@lru_cache(maxsize=64)
def plan_softmax(
    shape: tuple[int, ...],
    fxp: Fxp,
    out: Fxp,
    *,
    dim: int = -1,
    scale: float = 1.0,
    approx: Approximation = "exact",
    inner: Fxp | None = None,
    range: float | None = None,
    denominator: tuple[float, float] | None = None,
    epsilon: float = 0.01,
    secret_mask: bool = False,
    short: bool = False,
) -> Plan:
    """Make every public decision. `short` asks for few bits: see `planned`.

    Raises ValueError for attributes that no plan serves.
    """
    if approx not in INNER or scale == 0:
        raise ValueError(
            f"softmax: approx '{approx}' at scale {scale:g}; choose one of {', '.join(INNER)}, scale not 0"
        )
    chosen = inner or INNER[approx]
    if short:
        chosen = Fxp(64, _SHORT + (out.fraction_bits & 1))  # The reciprocal then has an even number of bits.
    if chosen.ring_bits != 64 and (approx != "exact" or chosen.ring_bits != 32):
        raise ValueError(f"softmax '{approx}' cannot compute in {chosen}: take a ring of 64 bits")
    length, rows = shape[dim], dropped(shape, dim)
    digits = math.ceil(portable.log2(max(length, 2)))
    bound, coarse, slack, exponential = None, None, 0.0, None
    lowest, highest, lost = 0.9, float(length), 0.0
    if approx in ("exact", "puma"):
        coarse = _coarse(fxp, abs(scale), None if secret_mask else range)
        slack = abs(scale) * coarse.offset * fxp.ulp if coarse is not None else 0.0
        lowest *= portable.exp(-2 * slack)
    elif approx == "bounded":
        bound, lowest = _bound(fxp, abs(scale), range, secret_mask)
    elif approx == "2quad":
        lowest, highest = denominator or (0.25, 2.0**10 * length)
    else:
        lowest, highest = denominator or (epsilon * 0.9, 2.0**7 * length)
    if approx in ("exact", "bounded"):
        most = {32: 31, 64: 30 - digits}[chosen.ring_bits] if approx == "exact" else 29
        bits = min(chosen.fraction_bits, most)
        chosen = Fxp(chosen.ring_bits, bits)
        farthest = math.inf if range is None or secret_mask else 2 * (range + _MARGIN * fxp.ulp)
        span = abs(scale) * farthest + 2 * slack
        apart = (farthest + 2 * (coarse.offset * fxp.ulp if coarse is not None else 0.0)) / fxp.ulp
        exponential = fit_window(fxp, abs(scale), Fxp(32, bits), span=span, terms=length, farthest=apart)
        reach = min(span, abs(scale) * fxp.limit) * _LOG2_E
        lost = length * 2.0**-exponential.reach if exponential.reach < reach else 0.0
    # Shares of 64 bits leave room for a sum in ring 32, if rounding drops enough bits and n numerators fit.
    exact_sums = exponential is not None and exponential.out.fraction_bits + digits <= 30
    summed = Fxp(32, exponential.out.fraction_bits) if exponential is not None and exact_sums else None
    wanted = math.ceil(portable.log2(highest))
    landing, bits = _landing(
        chosen, out, wanted + (9 if approx == "bounded" else _PRECISION[chosen.ring_bits])
    )
    if short:
        bits = 64 - out.ring_bits + out.fraction_bits - chosen.fraction_bits
    if bits < wanted + 4:
        raise ValueError(
            f"softmax over {length} elements from {chosen} to {out} leaves {bits} bits for 1 / sum"
        )
    inverted = Fxp(chosen.ring_bits, bits)
    reciprocal = fit_table(
        "reciprocal", summed or chosen, lowest, highest * 1.02, inverted, untruncated=short
    )
    return Plan(
        approx, length, rows, scale, fxp, chosen, bound, coarse, exponential, summed, reciprocal, inverted,
        landing, epsilon, secret_mask, lowest, lost,
    )  # fmt: skip


def largest_score(
    fxp: Fxp,
    out: Fxp,
    length: int,
    scale: float = 1.0,
    secret_mask: bool = False,
    approx: Approximation = "exact",
) -> float:
    """Return the largest admissible |x|.

    Scores then differ by less than half the ring, and masked scores stay out of reach.
    """
    limit = 2.0 ** (fxp.ring_bits - 2)
    if secret_mask and approx in ("exact", "puma"):
        plan = plan_softmax((length,), fxp, out, scale=scale, secret_mask=True, approx=approx)
        limit -= 2.0**plan.window.bits if plan.window is not None else 14 / abs(scale) / fxp.ulp + 1
    return (limit - 1) * fxp.ulp
