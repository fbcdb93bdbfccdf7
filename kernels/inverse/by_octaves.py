"""Inverses of few elements take the fewest rounds by one series per octave, chosen by threshold bits.

The functions are 1/x and 1/sqrt(x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from ditto_kernels.bits.bit_planes import Bits, unpack, word_count
from ditto_kernels.bits.select import open_bits
from ditto_kernels.bits.signs import signs
from ditto_kernels.products.multiply import finish_additive
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.sharing.additive import Additive, open_masked
from ditto_kernels.values import portable
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, container_bits, unsigned
from ditto_kernels.values.replicated import Rss

Power = Literal["reciprocal", "rsqrt"]
EXPONENT = {"reciprocal": -1.0, "rsqrt": -0.5}
OCTAVES = {"reciprocal": 1.0, "rsqrt": 2.0}  # So far apart are thresholds. The series errs by less than 5e-5.
HARMONICS = {"reciprocal": 3, "rsqrt": 4}  # The period has four units.
_WIDE = 64
_LOW = 3  # The comparison leaves out bits below 2^-3 of the least bound.


@dataclass(frozen=True)
class Octaves:
    """Public numbers: an x in [edge_(j-1), edge_j) has the series of piece j, of period 2^period_j ulp."""

    edges: tuple[int, ...]  # in ulp of x, ascending, without the lowest and the highest
    periods: tuple[int, ...]
    series: tuple[tuple[float, ...], ...]  # of the result: constant, then cosine and sine of every harmonic
    low: int  # the bits of x that the comparison leaves out
    width: int  # the bits that it reads
    wave_bits: int  # fraction bits of dealt and of public factors
    error: float  # the relative error
    unit_error: float  # of the inverse times a number up to 1, if their product is at most 1

    @property
    def harmonics(self) -> int:
        return len(self.series[0]) // 2

    def dealt_bytes(self, count: int) -> int:
        """Return the dealt bytes for choosing between the series of so many elements."""
        return count * len(self.periods) * (4 * self.harmonics + 1) * _WIDE // 8

    def serve(self, count: int, worth: int) -> bool:
        """Return whether so many elements are few where a saved round is worth so many bytes."""
        return self.dealt_bytes(count) <= limit(tuning.OCTAVES_BYTES, worth)


def fit(exponent: float, least: float, most: float, harmonics: int) -> tuple[tuple[float, ...], float]:
    """Return a series of u^exponent on an interval, where u = 4 is a period, and its relative error.

    All parties get the same bits.
    """

    def columns(u: Array) -> list[Array]:
        turns = [harmonic * u / 4 for harmonic in range(1, harmonics + 1)]
        return [np.ones_like(u), *(wave for turn in turns for wave in portable.waves(turn))]

    places, _ = portable.waves((np.arange(64) + 0.5) / 128)
    nodes = (least + most) / 2 + (most - least) / 2 * places
    weight = portable.powers(nodes, -exponent)
    coefficients = portable.least_squares([each * weight for each in columns(nodes)], np.ones_like(nodes))
    fine = np.linspace(least, most, 513)
    found = portable.combination(columns(fine), coefficients) * portable.powers(fine, -exponent)
    return coefficients, float(np.max(np.abs(found - 1)))


def noise(series: Sequence[float], wave_bits: int) -> float:
    """Bound the rounding of dealt and of public factors."""
    amplitudes = sum(
        math.sqrt(series[place] ** 2 + series[place + 1] ** 2) for place in range(1, len(series), 2)
    )
    return math.sqrt(2) * (amplitudes + len(series) // 2) * 2.0 ** -(wave_bits + 1)


def octaves(
    power: Power, fxp: Fxp, bounds: Sequence[float], out: Fxp, divisor: int = 1, untruncated: bool = False
) -> Octaves | None:
    """Return public numbers for (x / divisor)^-1 or ^-1/2 in `out`, with those bounds of pieces.

    If it is `untruncated`, factors are so short that products have just the fraction bits of `out`, which is
    in ring 64: no truncation follows. Returns None if there is no room for them.
    """
    exponent, ulps = EXPONENT[power], 2.0**fxp.fraction_bits * divisor
    top, least = math.ceil(portable.log2(bounds[-1] * ulps)), portable.log2(bounds[0] * ulps)
    width = min(top + 1, top + 1 - math.floor(least) + _LOW)
    low = top + 1 - width
    largest = portable.power(bounds[0], exponent)
    more = 0 if untruncated else 32 if out.ring_bits < _WIDE else 40
    room = min(57 - math.ceil(portable.log2(largest)), out.fraction_bits + more)
    wave_bits = room // 2
    if wave_bits < 12:
        return None
    ends = [(max(left * ulps - 2.0**low, bounds[0] * ulps), right * ulps) for left, right in pairwise(bounds)]
    edges = tuple(math.ceil(each * ulps) for each in bounds[1:-1])
    pieces = [_piece(exponent, each, ulps, HARMONICS[power], wave_bits, fxp.ring_bits) for each in ends]
    errors, periods, series = zip(*pieces, strict=True)
    largest_results = [min(1.0, portable.power(left, exponent)) for left in bounds[:-1]]
    beside_one = max(each * most for each, most in zip(errors, largest_results, strict=True))
    return Octaves(edges, tuple(periods), tuple(series), low, width, wave_bits, max(errors), beside_one)


def _piece(
    exponent: float, ends: tuple[float, float], ulps: float, harmonics: int, wave_bits: int, ring: int
) -> tuple[float, int, tuple[float, ...]]:
    """Return (relative error, period, series) of the best period."""
    candidates = []
    shortest = math.ceil(portable.log2(ends[1]))
    for period in range(shortest, min(shortest + 3, ring + 1)):
        unit = 2.0 ** (period - 2)
        series, error = fit(exponent, ends[0] / unit, ends[1] / unit, harmonics)
        series = tuple(each * portable.power(unit / ulps, exponent) for each in series)
        error += noise(series, wave_bits) / portable.power(ends[1] / ulps, exponent)
        if max(map(abs, series)) * 4.0**wave_bits < 2.0 ** (_WIDE - 2):
            candidates.append((error, period, series))
    return min(candidates)


def _turns(positions: Array, plan: Octaves) -> Array:
    """Return the angle of every harmonic of every piece: (pieces, harmonics, n)."""
    low = np.stack([positions & positions.dtype.type((1 << period) - 1) for period in plan.periods])
    unit = 2 * math.pi * np.exp2(-np.asarray(plan.periods, np.float64))
    return (low * unit[:, None])[:, None] * np.arange(1, plan.harmonics + 1)[:, None]


def _chosen(below: Array, leader: bool) -> Array:
    """Turn shares of [x < edge_j] into shares of [x is in piece j]."""
    last = ~below[-1:] if leader else below[-1:]
    return np.concatenate([below[:1], below[1:] ^ below[:-1], last])


def _dealt(mask: Array, rho: Array, size: int, plan: Octaves, word_bits: int) -> tuple[Array, Array, Array]:
    """Return the waves of the mask, the masks of the choosing bits, and their products."""
    turns, scale = _turns(mask, plan), 2.0**plan.wave_bits
    waves = np.rint(np.concatenate([np.cos(turns), np.sin(turns)], axis=1) * scale).astype(np.int64)
    bits = unpack(rho, size, word_bits).astype(np.int64)
    return waves, bits, waves * bits[:, None]


def _public(c: Array, plan: Octaves) -> tuple[Array, Array]:
    """Return (constants (pieces, 1), factors of the waves (pieces, 2 harmonics, n))."""
    turns, scale = _turns(c, plan), 2.0**plan.wave_bits
    series = np.asarray(plan.series)
    even, odd = series[:, 1::2, None], series[:, 2::2, None]
    cosine, sine = np.cos(turns), np.sin(turns)
    factors = np.concatenate([even * cosine + odd * sine, even * sine - odd * cosine], axis=1)
    constants = np.rint(series[:, :1] * scale * scale).astype(np.int64)
    return constants, np.rint(factors * scale).astype(np.int64)


@local_step(lambda c, *_: absent(c.shape, np.dtype(np.int64)))
def _chosen_series(
    c: Array, bits: Array, waves: Array, rho: Array, products: Array, plan: Octaves, leader: bool
) -> Array:
    """Return a share of the series of the chosen piece.

    The opened bits and the shares of their masks choose it.
    """
    flags = bits.astype(np.int64)
    constants, factors = _public(c, plan)
    sign = 1 - 2 * flags
    own = flags if leader else 0
    terms = (factors * (flags[:, None] * waves + sign[:, None] * products)).sum(axis=1)
    return (terms + constants * (own + sign * rho)).sum(axis=0)


def by_octaves(party: Party, x: Additive, plan: Octaves, out: Fxp) -> Protocol[Rss]:
    """Compute (x / divisor)^-1 or ^-1/2 for positive x.

    Range: x within the bounds. Outside of them the result is wrong. Error: relative `Octaves.error`, and 1.5
    ulp of `out`. Rounds: open, signs (1 or 2), bits, and a reshare, or a truncation in ring 64. Cost:
    `Octaves.dealt_bytes` offline.

    Security: x is opened under a full-width mask, and choosing bits under one-time masks. Waves of masks and
    their products with the masks of bits are dealt. Source: own.
    """
    flat = x.reshape((x.size,))
    pieces, word_bits = len(plan.periods), container_bits(plan.width)
    opened = yield from open_masked(party.at("open"), flat)
    leader = party.role == "A"
    if plan.edges:
        offsets = [-edge for edge in plan.edges]
        below = yield from signs(party.at("signs"), opened, offsets, low=plan.low, width=plan.width)
        bits = Bits(_chosen(below.words, leader), word_bits)
    else:
        chosen = np.full((1, word_count(x.size, word_bits)), -1 if leader else 0)
        bits = Bits(chosen.astype(unsigned(word_bits)), word_bits)
    shape, wide = (pieces, 2 * plan.harmonics, x.size), np.dtype(np.int64)
    items = [Deal("waves", shape, wide), Deal("rho", (pieces, x.size), wide), Deal("rho_waves", shape, wide)]
    beta, _, shares = yield from open_bits(
        party.at("bits"), bits, items, lambda rho: _dealt(opened.mask, rho, x.size, plan, word_bits)
    )
    share = _chosen_series(opened.c, unpack(beta, x.size, word_bits), *shares, plan, leader)
    result = Additive(share.reshape(x.shape), Fxp(_WIDE, 2 * plan.wave_bits))
    return (yield from finish_additive(party.at("result"), result, out))
