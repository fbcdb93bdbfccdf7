"""Smooth saturating functions by a trigonometric series: one masked opening, then only local products.

Inside a window f(x) = a_0 + sum a_j cos(w_j x) + b_j sin(w_j x), perhaps + x/2 (`half.py`); outside it f is a
constant or x itself. With c = x + r open, cos(w (c - r)) = cos(w c) cos(w r) + sin(w c) sin(w r): the dealer
deals cos(w r) and sin(w r) as additive shares, A and B multiply them by public numbers. The period is a power
of two, so the series does not see where c wraps. It runs beside the two comparisons, and the bits then choose
between series and tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels import cost as costs
from ditto_kernels.additive import Additive, Opened, to_rss, to_rss_cost
from ditto_kernels.half import half, wrap_items, wrap_values, wraps_cost
from ditto_kernels.party import Deal, Party, Protocol, deal
from ditto_kernels.ring import Array, Fxp, signed, unsigned
from ditto_kernels.rss import Rss
from ditto_kernels.truncate import convert, convert_cost, upcast, upcast_cost

NARROW = 16  # ring of the series' value; its sum in ring 32 leaves 16 bits to drop
INDEX_BITS = 16  # an angle has at most so many bits: tables of 2^16 rows


@dataclass(frozen=True)
class Curve:
    """A function as a series inside, `below` and `above` (None: x) outside.

    Both serve where bound <= |x| <= outer: there the comparisons, which leave out low bits, may say either.
    """

    bound: float  # the tails hold beyond it
    outer: float  # the series holds within it
    period_bits: int  # period 2^period_bits
    harmonics: tuple[int, ...]
    half: bool  # whether x/2 is added to the series, which is then an even function
    constant: float
    cosine: tuple[float, ...]
    sine: tuple[float, ...]
    below: float
    above: float | None
    minimum: float  # a lower bound of every result, errors included: upcasts rely on it
    maximum: float  # of the function within `outer`
    slope: float  # largest of the series within `outer`, x/2 left out
    fit_error: float  # of the series within `outer`
    tail_error: float  # of the tails beyond `bound`

    def series(self, x: Array) -> NDArray[np.float64]:
        """The series, without the protocol's rounding."""
        real = np.asarray(x, dtype=np.float64)
        angle = np.multiply.outer(real, np.asarray(self.harmonics)) * (2 * np.pi / 2.0**self.period_bits)
        waves = np.cos(angle) @ np.asarray(self.cosine) + np.sin(angle) @ np.asarray(self.sine)
        return waves + self.constant + (real / 2 if self.half else 0)

    def tails(self, x: Array) -> NDArray[np.float64]:
        """What holds outside."""
        real = np.asarray(x, dtype=np.float64)
        return np.where(real < 0, self.below, real if self.above is None else self.above)

    def holds(self, x: Fxp) -> bool:
        """Whether a format has room for the period and for four windows, and two bits for the angle."""
        return x.ring_bits >= NARROW and 2 <= x.fraction_bits <= self.most_fraction_bits(x.ring_bits)

    def checked(self, x: Fxp) -> Curve:
        """This curve. ValueError if the format does not hold it."""
        if x.ring_bits < NARROW:
            raise ValueError(f"{x}: the series needs ring 16 or more; cast the operand to fxp16 first")
        if not self.holds(x):
            raise ValueError(
                f"{x} does not hold the window and the period of the series: "
                f"choose 2 to {self.most_fraction_bits(x.ring_bits)} fraction bits"
            )
        return self

    def most_fraction_bits(self, ring_bits: int) -> int:
        """Fraction bits with which that ring still holds this curve's operands."""
        return ring_bits - max(self.period_bits, math.ceil(math.log2(4 * self.outer)))

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        return np.hypot(self.cosine, self.sine)

    @property
    def narrow_bits(self) -> int:
        """Most fraction bits with which the window's values fit ring 16, and its upcast."""
        return int(np.floor(np.log2((2**15 - 1) / (self.maximum - self.minimum + 0.5))))


@dataclass(frozen=True)
class Fits:
    """One function by a short series for ring 16, whose rounding is as large, and by a finer one."""

    short: Curve
    fine: Curve

    def at(self, x: Fxp) -> Curve:
        """The curve for operands in that format. ValueError if neither serves."""
        short = x.ring_bits == NARROW and self.short.holds(x)
        return self.short if short else self.fine.checked(x)


def index_bits(curve: Curve, fraction_bits: int) -> int:
    """Bits of an angle."""
    return min(INDEX_BITS, curve.period_bits + fraction_bits)


def index_shift(curve: Curve, fraction_bits: int) -> int:
    """Low bits of c and r that the angle leaves out."""
    return curve.period_bits + fraction_bits - index_bits(curve, fraction_bits)


def scale_bits(middle: int) -> int:
    """Fraction bits of a factor times a wave: 16 more than the result."""
    return 32 - NARROW + middle


def public_bits(curve: Curve, middle: int) -> tuple[int, ...]:
    """Fraction bits of each harmonic's factors, which fill 16 bits at most; its waves have the rest.

    With amplitude A, rounding costs 2^-p for the factor and A 2^-(scale - p) for the wave: least if equal.
    """
    level = np.log2(curve.amplitudes)
    best = np.minimum(np.rint((scale_bits(middle) - level) / 2), np.floor(np.log2(2**15 - 1) - level))
    return tuple(int(bits) for bits in best)


def dealt_bits(curve: Curve, middle: int) -> tuple[int, ...]:
    """Fraction bits of each harmonic's dealt waves."""
    return tuple(scale_bits(middle) - bits for bits in public_bits(curve, middle))


def _waves(harmonics: tuple[int, ...], bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and sin of every angle, shape (harmonics, 2^bits)."""
    turns = np.multiply.outer(np.asarray(harmonics), np.arange(1 << bits)) % (1 << bits)
    angle = turns * (2 * np.pi / (1 << bits))
    return np.cos(angle), np.sin(angle)


def _factors(curve: Curve, bits: int) -> NDArray[np.float64]:
    """What each dealt wave is multiplied by, for each angle of c: (2 harmonics, 2^bits)."""
    cosine, sine = _waves(curve.harmonics, bits)
    a, b = np.asarray(curve.cosine)[:, None], np.asarray(curve.sine)[:, None]
    return np.concatenate([a * cosine + b * sine, a * sine - b * cosine])


def _rounded(real: NDArray[np.float64], fraction_bits: tuple[int, ...]) -> NDArray[np.float64]:
    return np.rint(real * np.exp2(np.tile(fraction_bits, 2))[:, None])


@lru_cache(maxsize=32)
def public_factors(curve: Curve, bits: int, middle: int) -> NDArray[np.int16]:
    """The factors for each angle of c, (2 harmonics, 2^bits): a table, so equal at A and B."""
    return _rounded(_factors(curve, bits), public_bits(curve, middle)).astype(np.int16)


@lru_cache(maxsize=32)
def dealt_waves(curve: Curve, bits: int, middle: int) -> NDArray[np.int32]:
    """What the dealer looks up for every angle of r: cosines, then sines, (2 harmonics, 2^bits)."""
    waves = np.concatenate(_waves(curve.harmonics, bits))
    return _rounded(waves, dealt_bits(curve, middle)).astype(np.int32)


def _angle(value: Array, shift: int, bits: int) -> Array:
    word = value.view(unsigned(8 * value.dtype.itemsize))
    return (word >> shift).astype(jnp.int32) & ((1 << bits) - 1)


@partial(jax.jit, static_argnames=("shift", "bits"))
def _look_up(table: Array, value: Array, shift: int, bits: int) -> list[Array]:
    index = _angle(value, shift, bits)
    return [row.at[index].get(mode="promise_in_bounds") for row in table]


@partial(jax.jit, static_argnames=("shift", "bits", "drop"))
def _inner_product(
    table: Array, value: Array, shares: list[Array], constant: Array, shift: int, bits: int, drop: int
) -> Array:
    """One share of the series, truncated into ring 16."""
    index = _angle(value, shift, bits)
    total = constant
    for row, share in zip(table, shares, strict=True):
        total = total + row.at[index].get(mode="promise_in_bounds") * share
    return (total >> drop).astype(jnp.int16)


def series(party: Party, x: Opened, curve: Curve, middle: int) -> Protocol[Additive]:
    """The series at any x (mod the period), in fxp16.`middle`.

    Error: fit inside the window, 1 ulp of the result, and `noise`. Cost: 64 bits a harmonic offline; no
    round.
    Security: dealt values are full-width additive shares in ring 32 that depend on r alone.
    """
    fraction, count = x.fxp.fraction_bits, 2 * len(curve.harmonics)
    bits, shift = index_bits(curve, fraction), index_shift(curve, fraction)
    items = [Deal(f"wave{place}", x.shape, signed(32)) for place in range(count)]
    items += wrap_items(x) if curve.half else []

    def make() -> list[Array]:
        waves = _look_up(dealt_waves(curve, bits, middle), x.mask, shift, bits)
        return [*waves, *(wrap_values(x) if curve.half else [])]

    dealt = yield from deal(party, items, make)
    fxp = Fxp(NARROW, middle)
    if party.role == "D":
        return Additive(None, x.shape, fxp)
    scale = scale_bits(middle)
    drop = scale - middle
    constant = round(curve.constant * 2.0**scale) if party.role == "A" else 0
    constant += 1 << (drop - 1)  # two floors lose half a unit each
    start = np.asarray(constant).astype(np.int32)
    if curve.half:
        start = start + half(party, x, next(iter(dealt[count:]), None), scale)
    share = _inner_product(public_factors(curve, bits, middle), x.c, dealt[:count], start, shift, bits, drop)
    return Additive(np.asarray(share), x.shape, fxp)


def series_cost(size: int, ring: int, curve: Curve) -> costs.Cost:
    """Cost of `series`."""
    waves = costs.dealt(2 * len(curve.harmonics) * size, 32)
    return waves + wraps_cost(size, ring) if curve.half else waves


def noise(curve: Curve, bits: int, middle: int) -> float:
    """Bound of what rounding factors and waves to integers adds to the series."""
    count = len(curve.harmonics)
    factors, waves = _factors(curve, bits), np.concatenate(_waves(curve.harmonics, bits))
    public = np.exp2(-np.tile(public_bits(curve, middle), 2).astype(np.float64))[:, None]
    dealt = np.exp2(-np.tile(dealt_bits(curve, middle), 2).astype(np.float64))[:, None]
    wrong = factors - public_factors(curve, bits, middle) * public
    lost = waves - dealt_waves(curve, bits, middle) * dealt
    public_part = np.hypot(wrong[:count], wrong[count:]).sum(axis=0).max()
    dealt_part = np.hypot(lost[:count], lost[count:]).max(axis=1) @ curve.amplitudes
    return float(public_part + dealt_part * (1 + 2.0**-8))  # factors are rounded too: below 2^-8 of them


def series_error(curve: Curve, fraction_bits: int, middle: int) -> float:
    """Bound of the error of `series` within `outer`: fit, factors and waves, truncation, the angle's grid."""
    total = curve.fit_error + noise(curve, index_bits(curve, fraction_bits), middle) + 2.0**-middle
    shift = index_shift(curve, fraction_bits)
    return total + (curve.slope * 2.0 ** (shift - fraction_bits) if shift else 0.0)


def _shifted(x: Additive, bits: int) -> Additive:
    share = None if x.share is None else np.asarray(np.asarray(x.share) << bits, x.fxp.dtype)
    return replace(x, share=share, fxp=Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + bits))


def release(party: Party, x: Additive, out: Fxp, minimum: float) -> Protocol[Rss]:
    """2-of-2 shares to replicated ones in `out`; a larger ring costs no separate reshare.

    Range: minimum <= x, and x - minimum < half of x's ring. Error: 1.5 ulp of `out` if fraction bits drop.
    """
    source = x.fxp
    if out.ring_bits > source.ring_bits:
        bias = int(np.ceil(-minimum * 2.0**source.fraction_bits)) + 4
        wide = yield from upcast(party.at("upcast"), x, out.ring_bits, bias)
        return (yield from convert(party.at("convert"), wide, out))
    if out.ring_bits == source.ring_bits and out.fraction_bits >= source.fraction_bits:
        return (yield from to_rss(party, _shifted(x, out.fraction_bits - source.fraction_bits)))
    shared = yield from to_rss(party, x)
    return (yield from convert(party.at("convert"), shared, out))


def release_cost(shape: tuple[int, ...], source: Fxp, out: Fxp) -> costs.Cost:
    """Cost of `release`."""
    size = costs.elements(shape)
    if out.ring_bits > source.ring_bits:
        wide = Fxp(out.ring_bits, source.fraction_bits)
        return upcast_cost(size, source.ring_bits, out.ring_bits) + convert_cost(shape, wide, out)
    reshared = to_rss_cost(size, source.ring_bits)
    if out.ring_bits == source.ring_bits and out.fraction_bits >= source.fraction_bits:
        return reshared
    return reshared + convert_cost(shape, source, out)
