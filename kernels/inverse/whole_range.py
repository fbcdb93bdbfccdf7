"""Quotients of secret values of any size: divisors come to two octaves by a secret power of four."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ditto_kernels.bits.select import to_arithmetic
from ditto_kernels.bits.signs import signs
from ditto_kernels.inverse.by_octaves import fit, noise
from ditto_kernels.products.multiply import finish_additive, multiply, multiply_dealt
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import convert, downcast, truncate, upcast
from ditto_kernels.values import portable
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

WHOLE = "whole"  # the form of a kernel that serves values of any size
WINDOW = "window"  # the form for a declared range
WHOLE_RANGE = "whole range"  # the name of the first in a printed plan
WIDE = 64
INTEGER = Fxp(WIDE, 0)
HARMONICS = 5
_DIVISOR_BITS = 44  # divisors stay below 2^44 ulp, which leaves quotients up to 2^18 room in ring 64
_FACTOR_BITS = 20  # fraction bits of the normalised reciprocal when it meets the dividend
WAVE_BITS = 24
_SPARE = 2  # fraction bits of the scaled dividend beyond those of the result
_NARROW_SPARE = 4  # the same for results of less than 64 bits
_NUMERATOR_BITS = 24  # most fraction bits of a public dividend


@dataclass(frozen=True)
class Series:
    """A trigonometric series of a masked value, of the period 2^period ulp."""

    period: int
    coefficients: tuple[float, ...]  # constant, then cosine and sine of every harmonic
    wave_bits: int  # fraction bits of dealt and of public factors
    error: float  # relative

    @property
    def harmonics(self) -> int:
        """Cosines and sines of so many multiples of the angle."""
        return len(self.coefficients) // 2


@dataclass(frozen=True)
class Whole:
    """How magnitudes of any size come to two octaves.

    A magnitude of 4^j to 4^(j+1) ulp is piece j of `pieces`. It is multiplied by 4^(pieces - 1 - j), so that
    u lies from 2^top to 2^(top + 2) whatever the piece. A series then gives (u / 2^top)^exponent.
    """

    pieces: int
    series: Series

    @property
    def error(self) -> float:
        """Relative error of the series."""
        return self.series.error

    @property
    def top(self) -> int:
        return 2 * (self.pieces - 1)

    @property
    def most(self) -> int:
        """Magnitudes of so many ulp are beyond the last piece."""
        return 4**self.pieces

    @property
    def edges(self) -> tuple[int, ...]:
        """The least value of every piece of positive values but the first."""
        return tuple(4**piece for piece in range(1, self.pieces))

    @property
    def scales(self) -> tuple[int, ...]:
        """By which the values of each piece are multiplied."""
        return tuple(4 ** (self.pieces - 1 - piece) for piece in range(self.pieces))


@lru_cache(maxsize=64)
def fit_whole(exponent: float, bits: int, wave_bits: int, scale: float = 1.0) -> Whole:
    """Public numbers for scale * x^exponent of magnitudes below 2^bits ulp."""
    pieces = bits // 2
    found, error = fit(exponent, 0.5, 2.0, HARMONICS)
    coefficients = tuple(each * portable.power(0.5, -exponent) * scale for each in found)
    error += noise(coefficients, wave_bits) / (scale * min(1.0, 4.0**exponent))
    return Whole(pieces, Series(2 * pieces + 1, coefficients, wave_bits, error))


def chosen(
    party: Party, x: Additive, edges: Sequence[int], levels: Sequence[Sequence[int]]
) -> Protocol[list[Rss]]:
    """For each list of levels the one that belongs to x, as an integer in ring 64.

    Level j serves x from edge j - 1 up to edge j. Security: x is opened under a full-width mask, threshold
    bits under one-time masks.
    """
    opened = yield from open_masked(party.at("open"), x.reshape((x.size,)))
    below = yield from signs(party.at("signs"), opened, [-edge for edge in edges])
    bits = yield from to_arithmetic(party.at("bits"), below, x.size, INTEGER)
    sums = []
    for level in levels:
        steps = np.asarray([a - b for a, b in pairwise(level)], np.int64)
        share = (bits.share * steps[:, None]).sum(axis=0, dtype=np.int64)
        if party.role == "A":
            share = share + np.int64(level[-1])
        sums.append(Additive(share.reshape(x.shape), INTEGER))
    return (yield from parallel(*(to_rss(party.at(f"level{at}"), each) for at, each in enumerate(sums))))


def zero_unless(party: Party, kept: Rss, x: Rss) -> Protocol[Rss]:
    """x where the integer `kept` is 1, and exactly 0 where it is 0, without the rounding error of x.

    Programs compare with 0, and they order values of which several are 0. Cost: 3k bits in 1 round.
    """
    if x.fxp.ring_bits < kept.fxp.ring_bits:
        kept = downcast(party, kept, Fxp(x.fxp.ring_bits, 0))
    return (yield from multiply(party, kept, x, x.fxp))


def widened(party: Party, x: Rss) -> Protocol[Rss]:
    """x as an integer in ring 64."""
    if x.fxp.ring_bits < WIDE:
        x = yield from upcast(party, x, WIDE)
    return x.retagged(INTEGER)


def _angles(positions: Array, period: int) -> Array:
    low = positions & np.int64((1 << period) - 1)
    return low.astype(np.float64) * (2 * math.pi * 2.0**-period)


def _waves(mask: Array, series: Series) -> Array:
    """The dealer's cosines and sines of the mask."""
    angles, places = _angles(mask, series.period), range(1, series.harmonics + 1)
    waves = np.stack([wave(angles * place) for place in places for wave in (np.cos, np.sin)])
    return np.rint(waves * 2.0**series.wave_bits).astype(np.int64)


@local_step(lambda c, waves, *_: absent(c.shape, waves.dtype))
def _series_share(c: Array, waves: Array, series: Series, leader: bool) -> Array:
    """A share of the series at c - r, from those of the waves of r."""
    angles, scale = _angles(c, series.period), 2.0**series.wave_bits
    total = np.full(c.shape, round(series.coefficients[0] * scale * scale) if leader else 0, np.int64)
    for place in range(series.harmonics):
        even, odd = series.coefficients[1 + 2 * place : 3 + 2 * place]
        cosine, sine = np.cos(angles * (place + 1)), np.sin(angles * (place + 1))
        total += np.rint((even * cosine + odd * sine) * scale).astype(np.int64) * waves[2 * place]
        total += np.rint((even * sine - odd * cosine) * scale).astype(np.int64) * waves[2 * place + 1]
    return total


def series_of(party: Party, u: Rss, series: Series) -> Protocol[Additive]:
    """The series of a value u in ring 64, with two times `wave_bits` fraction bits.

    Security: u is opened under a full-width mask; waves of the mask are dealt.
    """
    opened = yield from open_masked(party.at("open"), from_rss(party, u))
    item = Deal("waves", (2 * series.harmonics, *u.shape), np.dtype(np.int64))
    (waves,) = yield from deal(party, [item], lambda: [_waves(opened.mask, series)])
    share = _series_share(opened.c, waves, series, party.role == "A")
    return Additive(share, Fxp(WIDE, 2 * series.wave_bits))


def scaled_series(party: Party, x: Rss, scale: Rss, plan: Whole) -> Protocol[Additive]:
    u = yield from multiply(party.at("scaled"), x, scale, INTEGER)
    return (yield from series_of(party, u, plan.series))


def landing_error(landing: Fxp, out: Fxp) -> float:
    """Error bound of `multiply_dealt` into a format of ring 64 or into `out`, and of the cast to `out`."""
    if landing != out:
        return 3 * out.ulp
    return (1.5 if out.ring_bits == WIDE else 1) * out.ulp


# Quotients.


@dataclass(frozen=True)
class Quotient:
    """The public decisions of one division."""

    plan: Whole
    dividend: int  # fraction bits in which the dividend meets the scale
    before: int  # fraction bits of their product, in which 2^top stands for 1
    scaled: Fxp  # the same after its truncation
    landing: Fxp
    room: float  # magnitudes of quotients below this are right, if `out` holds them

    @property
    def truncated(self) -> bool:
        """Whether the scaled dividend is truncated, so that the dealer knows its components in advance."""
        return self.before > self.scaled.fraction_bits


def fit_quotient(x: Fxp | None, y: Fxp, out: Fxp) -> Quotient:
    """How x / y of any divisor is computed; x: None for a public dividend. ValueError for too many bits."""
    plan = fit_whole(-1.0, min(y.ring_bits - 2, _DIVISOR_BITS), WAVE_BITS)
    fraction = out.fraction_bits + (_SPARE if out.ring_bits == WIDE else _NARROW_SPARE)
    most = min(out.ring_bits - 1 - out.fraction_bits, 60 - fraction - _FACTOR_BITS)
    dividend = min(_NUMERATOR_BITS, 60 - most - plan.top + y.fraction_bits) if x is None else x.fraction_bits
    dividend = max(dividend, y.fraction_bits - plan.top)
    before = plan.top + dividend - y.fraction_bits
    if min(most, dividend) < 0 or before > 60:
        raise ValueError(
            f"{x or 'public'} / {y} into {out}: too many fraction bits for a ring of {WIDE} bits"
        )
    scaled = Fxp(WIDE, min(before, fraction))
    dropped = scaled.fraction_bits + _FACTOR_BITS - out.fraction_bits
    landing = out if out.ring_bits <= WIDE - dropped else Fxp(WIDE, out.fraction_bits)
    return Quotient(plan, dividend, before, scaled, landing, 2.0 ** min(most, 60 - before))


def divide_whole(party: Party, x: Rss | Array, y: Rss, out: Fxp) -> Protocol[Rss]:
    """x / y for a divisor of any sign and any size that `Whole` serves; x may be public; both broadcast.

    Range: 1 ulp <= |y| < 2^(k-2) ulp, and below 2^44 ulp in ring 64; |x / y| < `Quotient.room`. Where y is 0
    the result is some number. Error: relative 1e-4 of x / y and 2 ulp of `out`. Below ring 64, where the
    scaled dividend is truncated, the last product has two shares and errs by less than 1 ulp, and the
    dividend errs by 1.5 / 16. So all of it is 1.25 ulp up to 1,500 ulp, and less than 2^-10 of x / y beyond.
    Cost: for each of 29 thresholds (43 in ring 64) one comparison of y and one bit in ring 64; one series;
    three products. Rounds: 11, and 1 more into ring 64. Security: y and the scaled divisor are opened under
    full-width masks, threshold bits under one-time masks; every product leaves under a zero share, or its
    dealer's share is dealt under a pad. Source: own, secret scaling as in Catrina and Saxena (FC 2010), with
    thresholds in place of a prefix and a dealt series in place of iterations.
    """
    how = fit_quotient(x.fxp if isinstance(x, Rss) else None, y.fxp, out)
    plan = how.plan
    edges = [*(1 - edge for edge in reversed(plan.edges)), 0, *plan.edges]
    levels = [*(-scale for scale in reversed(plan.scales)), *plan.scales]
    (scale,), divisor, dividend = yield from parallel(
        chosen(party.at("scale"), from_rss(party, y), edges, [levels]),
        widened(party.at("divisor"), y),
        _dividend(party.at("dividend"), x, how),
    )
    scaled, factor = yield from parallel(
        _scaled_dividend(party.at("scaled"), dividend, scale, how),
        _factor(party.at("factor"), divisor, scale, plan),
    )
    product = multiply_dealt if how.truncated or not isinstance(x, Rss) else multiply
    result = yield from product(party.at("product"), scaled, factor, how.landing)
    return (yield from convert(party.at("cast"), result, out))


def _dividend(party: Party, x: Rss | Array, how: Quotient) -> Protocol[Rss | Array]:
    """The dividend as integers in ring 64, of `how.dividend` fraction bits."""
    if not isinstance(x, Rss):
        return encode(x, Fxp(WIDE, how.dividend))
    rise = np.int64(how.dividend - x.fxp.fraction_bits)
    wide = yield from widened(party, x)
    return Rss(wide.mine << rise, wide.next << rise, wide.fxp) if rise else wide


def _scaled_dividend(party: Party, x: Rss | Array, scale: Rss, how: Quotient) -> Protocol[Rss]:
    before = Fxp(WIDE, how.before)
    if isinstance(x, Rss):
        return (yield from multiply(party, x, scale.retagged(before), how.scaled))
    product = Rss(scale.mine * x, scale.next * x, before)
    dropped = before.fraction_bits - how.scaled.fraction_bits
    return (yield from truncate(party, product, dropped)) if dropped else product


def _factor(party: Party, x: Rss, scale: Rss, plan: Whole) -> Protocol[Rss]:
    series = yield from scaled_series(party.at("series"), x, scale, plan)
    return (yield from finish_additive(party.at("result"), series, Fxp(WIDE, _FACTOR_BITS)))


def quotient_error(how: Quotient, out: Fxp, range: float) -> float:
    """Error bound for quotients of a magnitude up to `range`, of a public dividend as it is encoded."""
    relative = how.plan.error + 6 * 2.0**-_FACTOR_BITS
    last = 1.0 if how.truncated and out.ring_bits < WIDE else 1.5
    rounding = 1.5 * how.scaled.ulp + (3 if how.landing != out else last) * out.ulp
    return relative * min(range, how.room) + rounding
