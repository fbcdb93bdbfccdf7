"""Evaluate smooth saturating functions by a series: one masked opening, and then local products.

Inside a window f(x) = a_0 + sum a_j cos(w_j x) + b_j sin(w_j x), perhaps + x/2 (`half_of_x.py`). Outside it f
is a constant or x itself. Once c = x + r is open, cos(w (c - r)) = cos(w c) cos(w r) + sin(w c) sin(w r). The
dealer deals cos(w r) and sin(w r) as additive shares, and A and B multiply them by public numbers. The period
is a power of two, so that a wrap of c does not change the series. The series runs beside the two comparisons,
whose bits then choose between series and tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.activation.curve import NARROW, Curve
from ditto_kernels.activation.half_of_x import half, wrap_items, wrap_values
from ditto_kernels.machine.fused import fused
from ditto_kernels.machine.words import entries
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.values import portable
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, signed, unsigned

INDEX_BITS = 16  # An angle has at most this many bits, so that tables have at most 2^16 rows.


def index_bits(curve: Curve, fraction_bits: int) -> int:
    """Return the number of bits of an angle."""
    return min(INDEX_BITS, curve.period_bits + fraction_bits)


def index_shift(curve: Curve, fraction_bits: int) -> int:
    """Return the number of low bits of c and r that the angle leaves out."""
    return curve.period_bits + fraction_bits - index_bits(curve, fraction_bits)


def scale_bits(middle: int) -> int:
    """Return the fraction bits of a factor times a wave: 16 more than those of the result."""
    return 32 - NARROW + middle


def public_bits(curve: Curve, middle: int) -> tuple[int, ...]:
    """Return the fraction bits of each harmonic's factors. Factors fill 16 bits at most.

    Its waves have the remaining fraction bits. With amplitude A, rounding costs 2^-p for the factor and A
    2^-(scale - p) for the wave. The sum is least if both are equal.
    """
    level = np.array([portable.log2(float(each)) for each in curve.amplitudes])
    best = np.minimum(np.rint((scale_bits(middle) - level) / 2), np.floor(portable.log2(2**15 - 1) - level))
    return tuple(int(bits) for bits in best)


def dealt_bits(curve: Curve, middle: int) -> tuple[int, ...]:
    """Return the fraction bits of each harmonic's dealt waves."""
    return tuple(scale_bits(middle) - bits for bits in public_bits(curve, middle))


def _waves(harmonics: tuple[int, ...], bits: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the cosine and the sine of every angle, each of shape (harmonics, 2^bits)."""
    turns = np.multiply.outer(np.asarray(harmonics), np.arange(1 << bits)) % (1 << bits)
    angle = turns * (2 * np.pi / (1 << bits))
    return np.cos(angle), np.sin(angle)


def _factors(curve: Curve, bits: int) -> NDArray[np.float64]:
    """Return the factor of each dealt wave for each angle of c, in shape (2 harmonics, 2^bits)."""
    cosine, sine = _waves(curve.harmonics, bits)
    a, b = np.asarray(curve.cosine)[:, None], np.asarray(curve.sine)[:, None]
    return np.concatenate([a * cosine + b * sine, a * sine - b * cosine])


def _rounded(real: NDArray[np.float64], fraction_bits: tuple[int, ...]) -> NDArray[np.float64]:
    return np.rint(real * np.exp2(np.tile(fraction_bits, 2))[:, None])


@lru_cache(maxsize=32)
def public_factors(curve: Curve, bits: int, middle: int) -> NDArray[np.int16]:
    """Return the integer factors for each angle of c, in shape (2 harmonics, 2^bits).

    They come from a table, so that A and B have the same ones.
    """
    return _rounded(_factors(curve, bits), public_bits(curve, middle)).astype(np.int16)


@lru_cache(maxsize=32)
def dealt_waves(curve: Curve, bits: int, middle: int) -> NDArray[np.int32]:
    """Return the dealer's waves for every angle of r: cosines, then sines, in shape (2 harmonics, 2^bits)."""
    waves = np.concatenate(_waves(curve.harmonics, bits))
    return _rounded(waves, dealt_bits(curve, middle)).astype(np.int32)


def _angle(value: Array, shift: int, bits: int) -> Array:
    word = value.view(unsigned(8 * value.dtype.itemsize))
    return (word >> word.dtype.type(shift)).astype(np.int32) & ((1 << bits) - 1)


@lru_cache(maxsize=32)
def _public_rows(curve: Curve, bits: int, middle: int) -> NDArray[np.int32]:
    """Return `public_factors` by angle, in shape (2^bits, 2 harmonics).

    For few elements each row lies in one line of the cache.
    """
    return np.ascontiguousarray(public_factors(curve, bits, middle).T.astype(np.int32))


@lru_cache(maxsize=32)
def _dealt_rows(curve: Curve, bits: int, middle: int) -> NDArray[np.int32]:
    """Return `dealt_waves` by angle."""
    return np.ascontiguousarray(dealt_waves(curve, bits, middle).T)


@lru_cache(maxsize=32)
def _factor_pairs(curve: Curve, bits: int, middle: int) -> NDArray[np.int32]:
    """Return `public_factors` in pairs, which are read at once: the sine's in the upper half."""
    cosine, sine = np.split(public_factors(curve, bits, middle).astype(np.int32), 2)
    return (sine << 16) | (cosine & 0xFFFF)


@lru_cache(maxsize=32)
def _wave_pairs(curve: Curve, bits: int, middle: int) -> NDArray[np.int64]:
    """Return `dealt_waves` in pairs."""
    cosine, sine = np.split(dealt_waves(curve, bits, middle).astype(np.int64), 2)
    return (sine << 32) | (cosine & 0xFFFFFFFF)


@fused(rows=("table",), tables=("table",))
def _waves_at(table: Sequence[Array], mask: Array, *, shift: int, bits: int) -> list[Array]:
    """Return the dealt waves of every angle of a mask: cosines, then sines."""
    index = _angle(mask, shift, bits)
    pairs = [entries(each, index) for each in table]
    return [*(each.astype(np.int32) for each in pairs), *((each >> 32).astype(np.int32) for each in pairs)]


@fused(rows=("table",), tables=("table",))
def _inner_product(
    table: Sequence[Array], c: Array, start: Array, *shares: Array, shift: int, bits: int, drop: int
) -> Array:
    """Return one share of the series, truncated into ring 16."""
    index, total = _angle(c, shift, bits), start
    for place in range(len(table)):
        pair = entries(table[place], index)
        total = total + pair.astype(np.int16).astype(np.int32) * shares[place]
        total = total + (pair >> 16) * shares[len(table) + place]
    return (total >> drop).astype(np.int16)


def series(party: Party, x: Opened, curve: Curve, middle: int) -> Protocol[Additive]:
    """Evaluate the series at any x (modulo the period), in format fxp16.`middle`.

    Error: the fit inside the window, 1 ulp of the result, and `noise`. Cost: 64 bits per harmonic offline,
    and no round.

    Security: the dealt values are full-width additive shares in ring 32 that depend on r alone.
    """
    fraction, count = x.fxp.fraction_bits, 2 * len(curve.harmonics)
    few = x.size <= tuning.SERIES_ROWS_ELEMENTS
    bits, shift = index_bits(curve, fraction), index_shift(curve, fraction)
    if few:
        items = [Deal("waves", (*x.shape, count), signed(32))]
    else:
        items = [Deal(f"wave{place}", x.shape, signed(32)) for place in range(count)]
    waves = len(items)
    items += wrap_items(x) if curve.half else []

    def make() -> list[Array]:
        if few:
            made = [np.take(_dealt_rows(curve, bits, middle), _angle(x.mask, shift, bits), axis=0)]
        else:
            made = [*_waves_at(_wave_pairs(curve, bits, middle), x.mask, shift=shift, bits=bits)]
        return [*made, *(wrap_values(x) if curve.half else [])]

    dealt = yield from deal(party, items, make)
    scale = scale_bits(middle)
    drop = scale - middle
    constant = round(curve.constant * 2.0**scale) if party.role == "A" else 0
    constant += 1 << (drop - 1)  # The shifts of A and B are floors and lose half a unit each.
    start: Array = np.asarray(constant).astype(np.int32)
    if curve.half:
        start = start + half(party, x, dealt[waves:], scale)
    product = _products_of_rows if few else _products_of_columns
    return Additive(product(x.c, dealt[:waves], start, curve, bits, shift, middle), Fxp(NARROW, middle))


@local_step(lambda c, *_: absent(c.shape, signed(NARROW)))
def _products_of_rows(
    c: Array, shares: list[Array], start: Array, curve: Curve, bits: int, shift: int, middle: int
) -> Array:
    """Return a share of the series for few elements. The waves of an element lie side by side."""
    factors = np.take(_public_rows(curve, bits, middle), _angle(c, shift, bits), axis=0)
    total = start + np.einsum("...k,...k->...", factors, shares[0])
    return np.asarray(total >> np.int32(scale_bits(middle) - middle)).astype(np.int16)


@local_step(lambda c, *_: absent(c.shape, signed(NARROW)))
def _products_of_columns(
    c: Array, shares: list[Array], start: Array, curve: Curve, bits: int, shift: int, middle: int
) -> Array:
    """Return a share of the series for many elements. Each wave is an array of its own."""
    table, drop = _factor_pairs(curve, bits, middle), scale_bits(middle) - middle
    made: Array = _inner_product(table, c, start, *shares, shift=shift, bits=bits, drop=drop)
    return made


def noise(curve: Curve, bits: int, middle: int) -> float:
    """Bound the error that the rounding of factors and waves to integers adds to the series."""
    count = len(curve.harmonics)
    factors, waves = _factors(curve, bits), np.concatenate(_waves(curve.harmonics, bits))
    public = np.exp2(-np.tile(public_bits(curve, middle), 2).astype(np.float64))[:, None]
    dealt = np.exp2(-np.tile(dealt_bits(curve, middle), 2).astype(np.float64))[:, None]
    wrong = factors - public_factors(curve, bits, middle) * public
    lost = waves - dealt_waves(curve, bits, middle) * dealt
    public_part = np.hypot(wrong[:count], wrong[count:]).sum(axis=0).max()
    dealt_part = np.hypot(lost[:count], lost[count:]).max(axis=1) @ curve.amplitudes
    # The waves' errors meet rounded factors, and that rounding is below 2^-8 of the factors.
    return float(public_part + dealt_part * (1 + 2.0**-8))


def series_error(curve: Curve, fraction_bits: int, middle: int) -> float:
    """Bound the error of `series` within `outer`.

    It consists of the fit, the rounding of factors and waves, the truncation, and the angle's grid.
    """
    total = curve.fit_error + noise(curve, index_bits(curve, fraction_bits), middle) + 2.0**-middle
    shift = index_shift(curve, fraction_bits)
    return total + (curve.slope * 2.0 ** (shift - fraction_bits) if shift else 0.0)
