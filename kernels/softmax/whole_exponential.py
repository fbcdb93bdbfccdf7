"""The exponential of values of any size: each comes to one interval by a secret shift, and saturates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ditto_kernels.inverse.by_octaves import noise
from ditto_kernels.inverse.whole_range import (
    HARMONICS,
    INTEGER,
    Series,
    chosen,
    landing_error,
    series_of,
    widened,
    zero_unless,
)
from ditto_kernels.products.multiply import finish_additive, multiply_dealt
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import from_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_STEP = 2 * math.log(2)  # nats of an interval: the exponential grows by four
_WAVE_BITS = 24
_FACTOR_BITS = 15  # least fraction bits of the exponential within an interval
_MOST_FACTOR_BITS = 20
_LEVEL_BITS = 3  # fraction bits of the power that an interval starts with, beyond those of the result
_NARROW_LEVEL_BITS = 5  # the same for results of less than 64 bits, which leave the product room


@dataclass(frozen=True)
class WholeExponential:
    """The public decisions: exponents from edge_j to edge_(j+1) are edge_j and a rest below one interval."""

    edges: tuple[int, ...]  # in ulp of x; below the first the result is 0, from the last on the largest
    levels: tuple[int, ...]  # e^edge_j
    level_bits: int  # their fraction bits
    series: Series  # of e^rest
    factor: Fxp
    landing: Fxp
    largest: float


@lru_cache(maxsize=64)
def fit_exponential(x: Fxp, out: Fxp) -> WholeExponential:
    """How e^x of any x is computed. ValueError where the result has too many fraction bits."""
    spare = _LEVEL_BITS if out.ring_bits == _WIDE else _NARROW_LEVEL_BITS
    room = _WIDE - 4 - _FACTOR_BITS - spare - out.fraction_bits  # bits of the largest result
    top = min(out.ring_bits - 2 - out.fraction_bits, room)
    level_bits = out.fraction_bits + spare
    if top < 0:
        raise ValueError(f"exponential into {out}: too many fraction bits; declare the range of the result")
    factor = Fxp(_WIDE, min(_MOST_FACTOR_BITS, _WIDE - 4 - top - level_bits))
    step = max(1, math.floor(_STEP / x.ulp))
    last = math.floor(top * math.log(2) / x.ulp) + 1
    first = -(out.fraction_bits + 2) * math.log(2) / x.ulp
    reach = 2 ** (x.ring_bits - 2)
    edges = [edge for edge in range(last, math.floor(first) - step, -step) if -reach < edge < reach][::-1]
    levels = tuple(round(portable.exp(edge * x.ulp) * 2.0**level_bits) for edge in edges[:-1])
    dropped = level_bits + factor.fraction_bits - out.fraction_bits
    narrow = out.ring_bits < _WIDE and out.ring_bits <= _WIDE - dropped
    landing = out if narrow else Fxp(_WIDE, out.fraction_bits)
    largest = 2.0**top - out.ulp
    return WholeExponential(tuple(edges), levels, level_bits, _fit(step, x.ulp), factor, landing, largest)


def _fit(step: int, ulp: float) -> Series:
    """A series of e^(r ulp) for 0 <= r <= step, of a period of more than two steps."""
    period = step.bit_length() + 1

    def columns(rest: Array) -> list[Array]:
        turns = [harmonic * rest / 2.0**period for harmonic in range(1, HARMONICS + 1)]
        return [np.ones_like(rest), *(wave for turn in turns for wave in portable.waves(turn))]

    places, _ = portable.waves((np.arange(64) + 0.5) / 128)
    nodes, fine = step / 2 * (1 - places), np.linspace(0, step, 513)
    weight = 1 / portable.exponentials(nodes * ulp)
    series = portable.least_squares([each * weight for each in columns(nodes)], np.ones_like(nodes))
    found = portable.combination(columns(fine), series) / portable.exponentials(fine * ulp)
    error = float(np.max(np.abs(found - 1)))
    return Series(period, series, _WAVE_BITS, error + noise(series, _WAVE_BITS))


def exponential_whole(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """e^x of any x: 0 where that is below a quarter ulp of `out`, and the largest value where it is above.

    Both are exact, so that programs that compare or order them are not decided by rounding. The largest value
    is half of what `out` holds, or what leaves ring 64 its room (`largest`): 2^19 at fxp32.11 and 2^24 at
    fxp64.18. Range: |x| < 2^(k-2) ulp. Error: relative 1e-4 and 3 ulp. Cost: for each of some 17 thresholds
    one comparison of x and one bit in ring 64; one series; two products. Rounds: 10 to 13. Security: x and
    its rest are opened under full-width masks, threshold bits under one-time masks. The dealer's share of the
    first product is dealt under a pad, and the second leaves under a zero share. Source: own.
    """
    how = fit_exponential(x.fxp, out)
    shifts = [0, *how.edges[:-1], 0]
    levels = [0, *how.levels, 0]
    beyond = [*(0 for _ in how.edges), 1]
    within = [0, *(1 for _ in how.levels), 0]
    (shift, level, is_beyond, is_within), wide = yield from parallel(
        chosen(party.at("pieces"), from_rss(party, x), how.edges, [shifts, levels, beyond, within]),
        widened(party.at("widen"), x),
    )
    rest = Rss(wide.mine - shift.mine, wide.next - shift.next, INTEGER)
    series = yield from series_of(party.at("series"), rest, how.series)
    factor = yield from finish_additive(party.at("factor"), series, how.factor)
    tagged = level.retagged(Fxp(_WIDE, how.level_bits))
    product = yield from multiply_dealt(party.at("product"), tagged, factor, how.landing)
    rounded = yield from convert(party.at("cast"), product, out)
    result = yield from zero_unless(party.at("within"), is_within, rounded)
    top = np.int64(round(how.largest / out.ulp))
    mine, following = ((each * top).astype(out.dtype) for each in (is_beyond.mine, is_beyond.next))
    return Rss(result.mine + mine, result.next + following, out)


def exponential_error(x: Fxp, out: Fxp, hi: float) -> float:
    """Error bound for exponents up to `hi`."""
    how = fit_exponential(x, out)
    relative = how.series.error + 1.5 * how.factor.ulp
    rounding = 2.0 ** (1 - how.level_bits) + landing_error(how.landing, out)
    return relative * min(portable.exp(hi), how.largest) + rounding
