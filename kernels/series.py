"""Smooth saturating functions by a trigonometric series: one masked opening, then only local products.

Inside a window f(x) = a_0 + sum a_j cos(w_j x) + b_j sin(w_j x), outside it f is a constant or x itself.
With c = x + r open, cos(w (c - r)) = cos(w c) cos(w r) + sin(w c) sin(w r): the dealer deals cos(w r) and
sin(w r) as additive shares, A and B multiply them by public numbers. The period is a power of two, so the
series does not see where c wraps. It runs beside the two comparisons, and the bits then choose between
series and tails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels import cost as costs
from ditto_kernels.additive import Additive, Opened, to_rss, to_rss_cost
from ditto_kernels.party import Deal, Party, Protocol, deal
from ditto_kernels.ring import Array, Fxp, signed, unsigned
from ditto_kernels.rss import Rss
from ditto_kernels.truncate import convert, convert_cost, upcast, upcast_cost

NARROW = 16  # ring of the series' value; its sum in ring 32 leaves 16 bits to drop
INDEX_BITS = 15  # an angle has at most so many bits: tables of 2^15 rows


@dataclass(frozen=True)
class Curve:
    """A function as a series inside [-bound, bound), `below` and `above` outside (`above` None: x)."""

    bound: float
    period_bits: int  # period 2^period_bits
    harmonics: tuple[int, ...]
    constant: float
    cosine: tuple[float, ...]
    sine: tuple[float, ...]
    below: float
    above: float | None
    minimum: float  # a lower bound of every result, errors included: upcasts rely on it
    maximum: float  # of the function inside the window
    slope: float  # largest inside the window
    fit_error: float  # of the series inside the window
    tail_error: float  # of the tails outside it

    def __call__(self, x: Array) -> NDArray[np.float64]:
        """What the protocol computes, without its rounding."""
        real = np.asarray(x, dtype=np.float64)
        angle = np.multiply.outer(real, np.asarray(self.harmonics)) * (2 * np.pi / 2.0**self.period_bits)
        inside = (
            self.constant + np.cos(angle) @ np.asarray(self.cosine) + np.sin(angle) @ np.asarray(self.sine)
        )
        above = real if self.above is None else self.above
        return np.where(real < -self.bound, self.below, np.where(real < self.bound, inside, above))

    @property
    def public_bits(self) -> int:
        """Fraction bits of the public factors, which fill 16 bits."""
        amplitude = float(np.max(np.hypot(self.cosine, self.sine)))
        return int(np.floor(np.log2((2**15 - 1) / amplitude)))

    @property
    def narrow_bits(self) -> int:
        """Most fraction bits with which the window's values fit ring 16, and its upcast."""
        return int(np.floor(np.log2((2**15 - 1) / (self.maximum - self.minimum + 0.5))))


def index_bits(curve: Curve, fraction_bits: int) -> int:
    """Bits of an angle."""
    return min(INDEX_BITS, curve.period_bits + fraction_bits)


def index_shift(curve: Curve, fraction_bits: int) -> int:
    """Low bits of c and r that the angle leaves out."""
    return curve.period_bits + fraction_bits - index_bits(curve, fraction_bits)


def dealt_bits(curve: Curve, middle: int) -> int:
    """Fraction bits of the dealt cosines: the product has 16 more than the result."""
    return 32 - NARROW + middle - curve.public_bits


def _waves(harmonics: tuple[int, ...], bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and sin of every angle, shape (harmonics, 2^bits)."""
    turns = np.multiply.outer(np.asarray(harmonics), np.arange(1 << bits)) % (1 << bits)
    angle = turns * (2 * np.pi / (1 << bits))
    return np.cos(angle), np.sin(angle)


@lru_cache(maxsize=32)
def public_factors(curve: Curve, bits: int) -> NDArray[np.int16]:
    """Factors of the dealt waves for each angle of c (2 harmonics, 2^bits): a table, so equal at A and B."""
    cosine, sine = _waves(curve.harmonics, bits)
    a, b = np.asarray(curve.cosine)[:, None], np.asarray(curve.sine)[:, None]
    real = np.concatenate([a * cosine + b * sine, a * sine - b * cosine])
    return np.rint(real * 2.0**curve.public_bits).astype(np.int16)


@lru_cache(maxsize=32)
def dealt_waves(harmonics: tuple[int, ...], bits: int, fraction_bits: int) -> NDArray[np.int32]:
    """What the dealer looks up for every angle of r: (2 harmonics, 2^bits)."""
    return np.rint(np.concatenate(_waves(harmonics, bits)) * 2.0**fraction_bits).astype(np.int32)


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
    fraction = x.fxp.fraction_bits
    bits, shift = index_bits(curve, fraction), index_shift(curve, fraction)
    precision = dealt_bits(curve, middle)
    items = [Deal(f"wave{place}", x.shape, signed(32)) for place in range(2 * len(curve.harmonics))]
    waves = yield from deal(
        party,
        items,
        lambda: _look_up(dealt_waves(curve.harmonics, bits, precision), x.mask, shift, bits),
    )
    fxp = Fxp(NARROW, middle)
    if party.role == "D":
        return Additive(None, x.shape, fxp)
    scale = curve.public_bits + precision
    drop = scale - middle
    constant = round(curve.constant * 2.0**scale) if party.role == "A" else 0
    constant += 1 << (drop - 1)  # two floors lose half a unit each
    factors = public_factors(curve, bits)
    share = _inner_product(factors, x.c, waves, np.int32(constant), shift, bits, drop)
    return Additive(np.asarray(share), x.shape, fxp)


def series_cost(size: int, curve: Curve) -> costs.Cost:
    """Cost of `series`."""
    return costs.dealt(2 * len(curve.harmonics) * size, 32)


def noise(curve: Curve, bits: int, middle: int) -> float:
    """Bound of what rounding factors and waves to integers adds to the series."""
    count = len(curve.harmonics)
    cosine, sine = _waves(curve.harmonics, bits)
    a, b = np.asarray(curve.cosine)[:, None], np.asarray(curve.sine)[:, None]
    exact = np.concatenate([a * cosine + b * sine, a * sine - b * cosine])
    wrong = exact - public_factors(curve, bits) * 2.0**-curve.public_bits
    precision = dealt_bits(curve, middle)
    dealt = np.concatenate([cosine, sine]) - dealt_waves(curve.harmonics, bits, precision) * 2.0**-precision
    public_part = np.hypot(wrong[:count], wrong[count:]).sum(axis=0).max()
    dealt_part = np.hypot(dealt[:count], dealt[count:]).max(axis=1) @ np.hypot(curve.cosine, curve.sine)
    return float(public_part + dealt_part * (1 + 2.0**-8))  # factors are rounded too: below 2^-8 of them


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
