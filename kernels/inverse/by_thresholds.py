"""Inverses take a guess from thresholds and correct it by a dealt series.

The functions are 1/x and 1/sqrt(x), for few elements (one per row).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np

from ditto_kernels.bits.bit_planes import Bits, unpack
from ditto_kernels.bits.select import bits_times, bits_to_ring, open_bits
from ditto_kernels.bits.signs import signs
from ditto_kernels.inverse.by_octaves import (
    EXPONENT,
    HARMONICS,
    OCTAVES,
    Octaves,
    Power,
    by_octaves,
    fit,
    noise,
    octaves,
)
from ditto_kernels.products.multiply import multiply_masked
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import upcast
from ditto_kernels.values import portable
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_GUESS_BITS = 6  # The least guess has this many bits.
_ROOM_BITS = 46  # The multipliers of larger numbers have less than 16 bits, so guesses are chosen for them.
_NEAR = 2.0**-6  # Chosen guesses differ from the middle by at most this much.
_DRIFT = 2.0**-15  # A guess and its multiplier may differ by this much, else x grows into ring 64.


@dataclass(frozen=True)
class Table:
    """All public numbers of one evaluation.

    An x in [edge_j, edge_(j+1)) is multiplied by m_j, so that u = x m_j is about 1 (2^(k-2) in the ring). The
    result is guess_j f(u), where f(u) is u^-1 or u^-1/2 up to a constant, as a trigonometric series.
    """

    ring: int  # the ring of x * m_j
    edges: tuple[int, ...]  # in ulp of x, ascending, without the lowest
    multipliers: tuple[int, ...]
    guesses: tuple[int, ...]
    guess_bits: int
    low: int  # the bits of x that the comparison leaves out
    width: int  # the ring of the comparison
    series: tuple[float, ...]  # constant, then cosine and sine of every harmonic
    wave_bits: int  # fraction bits of dealt and of public factors
    many_error: float  # the relative error of many elements
    few: Octaves | None  # another form with fewer rounds, where elements are few

    @property
    def error(self) -> float:
        """The relative error, whichever form serves."""
        return max(self.many_error, 0.0 if self.few is None else self.few.error)

    @property
    def unit_error(self) -> float:
        """The error of the result times a number up to 1, whichever form serves, if their product is too."""
        return max(self.many_error, 0.0 if self.few is None else self.few.unit_error)

    def variant(self, count: int, worth: int) -> str:
        """Return the name of the other form, if it serves so many elements."""
        return "by octaves" if self.few_of(count, worth) is not None else ""

    def few_of(self, count: int, worth: int) -> Octaves | None:
        """Return the other form, if it serves so many elements where a saved round is worth so many bytes."""
        return self.few if self.few is not None and self.few.serve(count, worth) else None

    @property
    def harmonics(self) -> int:
        return len(self.series) // 2

    @property
    def result_bits(self) -> int:
        """The fraction bits of guess times series."""
        return self.guess_bits + 2 * self.wave_bits


@lru_cache(maxsize=64)
def fit_table(
    power: Power, fxp: Fxp, lo: float, hi: float, out: Fxp, divisor: int = 1, untruncated: bool = False
) -> Table:
    """Return public numbers for (x / divisor)^-1 or ^-1/2 in `out`, where lo <= x / divisor <= hi.

    `untruncated` spares inverses by octaves a truncation (`by_octaves.octaves`).
    Raises ValueError if the range is empty, too wide, or does not fit the formats.
    """
    if not 0 < lo < hi:
        raise ValueError(f"{power}: the range must satisfy 0 < lo < hi, not {lo:g} to {hi:g}")
    exponent, ulps = EXPONENT[power], 2.0**fxp.fraction_bits * divisor
    if lo * ulps < 2 or hi * ulps >= 2.0 ** (fxp.ring_bits - 1):
        raise ValueError(f"{power} on [{lo:g}, {hi:g}]: {fxp} does not hold that range")
    steps = max(1, math.ceil(portable.log2(hi / lo) / OCTAVES[power]))
    bounds = [lo * portable.power(hi / lo, step / steps) for step in range(steps + 1)]
    # More bits of a guess leave more choices.
    more = max(0, math.ceil(portable.log2(hi * ulps)) - _ROOM_BITS)
    guess_bits = _GUESS_BITS + more - math.floor(portable.log2(portable.power(hi, exponent)))
    guesses = [
        round(2.0**guess_bits * portable.power((left + right) / 2, exponent))
        for left, right in pairwise(bounds)
    ]
    for ring in (32, 64):
        unit = 2.0 ** (ring - 2)
        exact = partial(_exact_multiplier, guess_bits=guess_bits, exponent=exponent, scale=unit / ulps)
        if more and ring == _WIDE:
            guesses = [_chosen_guess(guess, exact) for guess in guesses]
        multipliers = [round(exact(guess)) for guess in guesses]
        drift = max(_drift(guess, exact) for guess in guesses)
        if ring >= fxp.ring_bits and drift < _DRIFT:
            break
    else:
        raise ValueError(f"{power} of {fxp} on [{lo:g}, {hi:g}]: the range is too wide; narrow it")
    top, least = math.ceil(portable.log2(hi * ulps)), portable.log2(lo * ulps)
    width = next(each for each in (16, 32, 64) if each >= ring or least - max(0, top + 1 - each) >= 5)
    low = max(0, top + 1 - width)
    spread = [
        edge * ulps * multiplier / unit
        for left, right, multiplier in zip(bounds, bounds[1:], multipliers, strict=False)
        for edge in (max(left - 2.0**low / ulps, lo), right)
    ]
    series, error = fit(exponent, min(spread), max(spread), HARMONICS[power])
    wave_bits = _wave_bits(portable.power(lo, exponent), guess_bits, out)
    if wave_bits < 8:
        raise ValueError(f"{power} on [{lo:g}, {hi:g}] into {out}: too few fraction bits; narrow the range")
    return Table(
        ring,
        tuple(math.ceil(edge * ulps) for edge in bounds[1:-1]),
        tuple(multipliers),
        tuple(guesses),
        guess_bits,
        low,
        width,
        series,
        wave_bits,
        error + drift + noise(series, wave_bits) / portable.power(max(spread), exponent),
        octaves(power, fxp, bounds, out, divisor, untruncated),
    )


def _exact_multiplier(guess: int, guess_bits: int, exponent: float, scale: float) -> float:
    return scale * portable.power(guess / 2.0**guess_bits, -1 / exponent)


def _drift(guess: int, exact: Callable[[int], float]) -> float:
    """Return by how much a guess and its whole multiplier differ."""
    multiplier = exact(guess)
    return abs(round(multiplier) / multiplier - 1)


def _chosen_guess(guess: int, exact: Callable[[int], float]) -> int:
    """Return the guess near this one whose multiplier is nearest to a whole number."""
    reach = int(guess * _NEAR)
    return min(range(guess - reach, guess + reach + 1), key=lambda each: _drift(each, exact))


def _wave_bits(largest: float, guess_bits: int, out: Fxp) -> int:
    """Return the most bits for which the last product fits.

    It must fit ring 64 and reach a smaller ring by a free truncation.
    """
    wanted = out.fraction_bits + (_WIDE - out.ring_bits if out.ring_bits < _WIDE else 40)
    return min(24, (min(60 - math.ceil(portable.log2(largest)), wanted) - guess_bits) // 2)


def _angles(positions: Array, ring: int) -> Array:
    """Return the angles of ring elements. The ring is one period."""
    return positions.astype(np.float64) * (2 * math.pi / 2.0**ring)


def _guess(party: Party, x: Additive, table: Table) -> Protocol[tuple[Additive, Additive]]:
    """Return additive shares of (guess in ring 64, u = x * multiplier in x's ring).

    It takes one opening and all thresholds at once.
    """
    dtype = x.fxp.dtype.type
    leader = party.role == "A"
    scaled = x.share * dtype(table.multipliers[-1])
    guess = np.full_like(scaled, table.guesses[-1] if leader else 0, dtype=np.int64)
    if table.edges:
        opened = yield from open_masked(party.at("open"), x)
        below = yield from signs(
            party.at("signs"), opened, [-edge for edge in table.edges], low=table.low, width=table.width
        )
        shape = (len(table.edges), x.size)
        items = [Deal("rho", shape, np.dtype(np.int64)), Deal("rho_r", shape, x.fxp.dtype)]
        make = partial(_bit_products, opened.mask.reshape(-1), x.size, below)
        beta, _, shares = yield from open_bits(party.at("bits"), below, items, make)
        flags = unpack(beta, x.size, below.word_bits)
        c, mask, rho = opened.c.reshape(-1), opened.mask.reshape(-1), shares[0].astype(dtype)
        bits = bits_to_ring(flags, shares[0], leader=leader)
        values = bits_times(flags, c, mask, rho, shares[1], leader=leader)
        guess = guess + _combined(bits, table.guesses).reshape(x.shape)
        scaled = scaled + _combined(values, table.multipliers).reshape(x.shape)
    return Additive(guess, Fxp(_WIDE, table.guess_bits)), Additive(scaled, x.fxp)


def _bit_products(mask: Array, size: int, bits: Bits, rho: Array) -> tuple[Array, Array]:
    flags = unpack(rho, size, bits.word_bits)
    return flags.astype(np.int64), flags.astype(mask.dtype) * mask


def _combined(values: Array, levels: tuple[int, ...]) -> Array:
    """Add up the steps between levels, each where its bit [x < edge] is set."""
    steps = np.asarray([a - b for a, b in pairwise(levels)], dtype=values.dtype)
    return (values * steps[:, None]).sum(axis=0, dtype=values.dtype)


def _waves(mask: Array, table: Table) -> Array:
    """Return the dealer's cosines and sines of the mask."""
    angles = _angles(mask, 8 * mask.dtype.itemsize)
    turns = [angles * harmonic for harmonic in range(1, table.harmonics + 1)]
    waves = np.stack([wave(turn) for turn in turns for wave in (np.cos, np.sin)])
    return np.rint(waves * 2.0**table.wave_bits).astype(np.int64)


def _series(party: Party, u: Additive, table: Table) -> Protocol[Additive]:
    """Return f(u) with two times `wave_bits` fraction bits.

    It follows from cos j(c - r) = cos jc cos jr + sin jc sin jr.
    """
    opened = yield from open_masked(party.at("open"), u)
    item = Deal("waves", (2 * table.harmonics, *u.shape), np.dtype(np.int64))
    (shares,) = yield from deal(party, [item], lambda: [_waves(opened.mask, table)])
    return Additive(
        _inner_product(opened.c, shares, table, party.role == "A"), Fxp(_WIDE, 2 * table.wave_bits)
    )


@local_step(lambda c, shares, *_: absent(c.shape, shares.dtype))
def _inner_product(c: Array, shares: Array, table: Table, leader: bool) -> Array:
    """Return a share of the series at c - r, from those of the waves of r."""
    angles, scale = _angles(c, 8 * c.dtype.itemsize), 2.0**table.wave_bits
    constant = round(table.series[0] * scale * scale) if leader else 0
    total = np.full(c.shape, constant, dtype=np.int64)
    for place in range(table.harmonics):
        even, odd = table.series[1 + 2 * place : 3 + 2 * place]
        cosine, sine = np.cos(angles * (place + 1)), np.sin(angles * (place + 1))
        total += np.rint((even * cosine + odd * sine) * scale).astype(np.int64) * shares[2 * place]
        total += np.rint((even * sine - odd * cosine) * scale).astype(np.int64) * shares[2 * place + 1]
    return total


def inverse(party: Party, x: Rss | Additive, table: Table, out: Fxp) -> Protocol[Rss]:
    """Compute (x / divisor)^-1 or ^-1/2 for positive x by a public `table`.

    Range: x within the range of the table. Outside of it the result is wrong. Error: relative `Table.error`,
    and 1.5 ulp of `out`. Rounds: open, signs (1 to 3), bits, open u, reshare, and 1 or 2 of the product; 2
    more if x grows into the table's ring. Few elements take `by_octaves`.

    Security: x and u are opened under full-width masks, and threshold bits under one-time masks. Products of
    bits and masks, and waves of masks, are dealt. So is the dealer's share of the last product, whose factors
    are masks at the dealer. Source: own, by threshold guess and trigonometric correction.
    """
    few = table.few_of(x.size, party.worth)
    if few is not None:
        own = from_rss(party, x) if isinstance(x, Rss) else x
        return (yield from by_octaves(party.at("octaves"), own, few, out))
    if x.fxp.ring_bits < table.ring:
        x = yield from upcast(party.at("widen"), x, table.ring, bias=2)  # Only rounding can make x negative.
    additive = from_rss(party, x) if isinstance(x, Rss) else x
    guess, scaled = yield from _guess(party.at("guess"), additive, table)
    replicated, series = yield from parallel(
        to_rss(party.at("guess"), guess), _series(party.at("series"), scaled, table)
    )
    factor = yield from to_rss(party.at("series"), series)
    return (yield from multiply_masked(party.at("result"), replicated, factor, out))
