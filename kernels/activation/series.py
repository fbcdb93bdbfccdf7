"""Evaluate smooth saturating functions by a series: one masked opening, and then local products.

Inside a window f(x) = a_0 + sum a_j cos(w_j x) + b_j sin(w_j x), perhaps + x/2 (`half_of_x.py`). Outside it f
is a constant or x itself. Once c = x + r is open, cos(w (c - r)) = cos(w c) cos(w r) + sin(w c) sin(w r). The
dealer deals cos(w r) and sin(w r) as additive shares, and A and B multiply them by public numbers. The period
is a power of two, so that a wrap of c does not change the series. The series runs beside the two comparisons,
whose bits then choose between series and tails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.activation.curve import NARROW, Curve
from ditto_kernels.activation.half_of_x import half, wrap_items, wrap_values
from ditto_kernels.machine.fused import fused
from ditto_kernels.machine.words import entries
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.sharing.short_deal import SHORT, deal_short, joined
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


@lru_cache(maxsize=64)
def short_waves(curve: Curve, middle: int) -> tuple[bool, ...]:
    """Return for each harmonic whether its waves are multiples of 2^8, which are dealt in 24 bits.

    The tails of most curves err more than their series do. Waves are short, the smallest first, while the
    bound of the series stays below that of the tails and a twentieth.
    """
    rest = 1.05 * curve.tail_error - curve.fit_error - 2.0**-middle
    rest -= sum(_rounding(each, _scale(middle, False)) for each in curve.amplitudes)
    short = [False] * len(curve.harmonics)
    for place in np.argsort(curve.amplitudes, kind="stable"):
        amplitude = curve.amplitudes[place]
        rest -= _rounding(amplitude, _scale(middle, True)) - _rounding(amplitude, _scale(middle, False))
        short[place] = rest >= 0
    return tuple(short)


def _rounding(amplitude: float, scale: int) -> float:
    """Return what a harmonic loses where factor and wave have so many fraction bits together."""
    return math.sqrt(2 * amplitude * 2.0**-scale)  # which rounds alike at all parties


def _scale(middle: int, short: bool) -> int:
    """Return the fraction bits of a factor times a wave, without the zeros at the end of a short one."""
    return scale_bits(middle) - SHORT * short


def public_bits(curve: Curve, middle: int) -> tuple[int, ...]:
    """Return the fraction bits of each harmonic's factors. Factors fill 16 bits at most.

    Its waves have the remaining fraction bits. With amplitude A, rounding costs 2^-p for the factor and A
    2^-(scale - p) for the wave. The sum is least if both are equal.
    """
    level = np.array([portable.log2(float(each)) for each in curve.amplitudes])
    scale = np.array([_scale(middle, short) for short in short_waves(curve, middle)])
    best = np.minimum(np.rint((scale - level) / 2), np.floor(portable.log2(2**15 - 1) - level))
    return tuple(int(bits) for bits in best)


def dealt_bits(curve: Curve, middle: int) -> tuple[int, ...]:
    """Return the fraction bits of each harmonic's dealt waves."""
    pairs = zip(public_bits(curve, middle), short_waves(curve, middle), strict=True)
    return tuple(_scale(middle, short) - bits for bits, short in pairs)


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
    """Return the dealer's waves for every angle of r: cosines, then sines, in shape (2 harmonics, 2^bits).

    Short waves are multiples of 2^8.
    """
    waves = np.concatenate(_waves(curve.harmonics, bits))
    zeros = SHORT * np.tile(short_waves(curve, middle), 2)[:, None]
    return (_rounded(waves, dealt_bits(curve, middle)) * np.exp2(zeros)).astype(np.int32)


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
    table: Sequence[Array],
    c: Array,
    start: Array,
    *shares: Array,
    shift: int,
    bits: int,
    drop: int,
    short: tuple[bool, ...],
) -> Array:
    """Return one share of the series, truncated into ring 16. A short wave is two operands."""
    index, total, rest = _angle(c, shift, bits), start, iter(shares)
    waves = [joined(next(rest), next(rest)) if each else next(rest) for each in (*short, *short)]
    for place in range(len(table)):
        pair = entries(table[place], index)
        total = total + pair.astype(np.int16).astype(np.int32) * waves[place]
        total = total + (pair >> 16) * waves[len(table) + place]
    return (total >> drop).astype(np.int16)


def series(party: Party, x: Opened, curve: Curve, middle: int) -> Protocol[Additive]:
    """Evaluate the series at any x (modulo the period), in format fxp16.`middle`.

    Error: the fit inside the window, 1 ulp of the result, and `noise`. Cost: 64 bits per harmonic offline, or
    48 where its waves are short, and no round.

    Security: the dealt values are full-width additive shares in ring 32 that depend on r alone. Those of
    short waves are so in the ring of their 24 bits.
    """
    few = x.size <= tuning.SERIES_ROWS_ELEMENTS
    deal_waves = _deal_rows if few else _deal_columns
    shares, wraps = yield from deal_waves(party, x, curve, middle)
    scale = scale_bits(middle)
    drop = scale - middle
    constant = round(curve.constant * 2.0**scale) if party.role == "A" else 0
    constant += 1 << (drop - 1)  # The shifts of A and B are floors and lose half a unit each.
    start: Array = np.asarray(constant).astype(np.int32)
    if curve.half:
        start = start + half(party, x, wraps, scale)
    product = _products_of_rows if few else _products_of_columns
    return Additive(product(x.c, shares, start, curve, middle, x.fxp.fraction_bits), Fxp(NARROW, middle))


def _deal_rows(
    party: Party, x: Opened, curve: Curve, middle: int
) -> Protocol[tuple[list[Array], list[Array]]]:
    """Deal the waves of few elements, side by side, and the wraps for x/2. Returns shares of both."""
    items = [Deal("waves", (*x.shape, 2 * len(curve.harmonics)), signed(32))]
    wraps = wrap_items(x) if curve.half else []

    def make() -> list[Array]:
        bits, shift = _read(curve, x.fxp.fraction_bits)
        made = np.take(_dealt_rows(curve, bits, middle), _angle(x.mask, shift, bits), axis=0)
        return [made, *(wrap_values(x) if wraps else [])]

    dealt = yield from deal(party, items + wraps, make)
    return dealt[:1], dealt[1:]


def _deal_columns(
    party: Party, x: Opened, curve: Curve, middle: int
) -> Protocol[tuple[list[Array], list[Array]]]:
    """Deal each wave of many elements apart, and the wraps for x/2. Returns shares of both.

    A short wave is two arrays.
    """
    short = short_waves(curve, middle) * 2
    wide = [place for place, each in enumerate(short) if not each]
    narrow = [place for place, each in enumerate(short) if each]
    wraps = wrap_items(x) if curve.half else []
    items = [Deal(f"wave{place}", x.shape, signed(32)) for place in wide] + wraps

    @cache
    def waves() -> Array:
        bits, shift = _read(curve, x.fxp.fraction_bits)
        made: Array = _waves_at(_wave_pairs(curve, bits, middle), x.mask, shift=shift, bits=bits)
        return made

    dealt, parts = yield from parallel(
        deal(party, items, lambda: [*(waves()[place] for place in wide), *(wrap_values(x) if wraps else [])]),
        deal_short(
            party, [f"wave{place}" for place in narrow], x.shape, lambda: [waves()[place] for place in narrow]
        ),
    )
    whole, pairs = iter(dealt), iter(parts)
    shares = [each for is_short in short for each in (next(pairs) if is_short else (next(whole),))]
    return shares, [*whole]


def _read(curve: Curve, fraction: int) -> tuple[int, int]:
    """Return (bits of an angle, bits below it) of values with so many fraction bits."""
    return index_bits(curve, fraction), index_shift(curve, fraction)


@local_step(lambda c, *_: absent(c.shape, signed(NARROW)))
def _products_of_rows(
    c: Array, shares: list[Array], start: Array, curve: Curve, middle: int, fraction: int
) -> Array:
    """Return a share of the series for few elements. The waves of an element lie side by side."""
    bits, shift = _read(curve, fraction)
    factors = np.take(_public_rows(curve, bits, middle), _angle(c, shift, bits), axis=0)
    total = start + np.einsum("...k,...k->...", factors, shares[0])
    return np.asarray(total >> np.int32(scale_bits(middle) - middle)).astype(np.int16)


@local_step(lambda c, *_: absent(c.shape, signed(NARROW)))
def _products_of_columns(
    c: Array, shares: list[Array], start: Array, curve: Curve, middle: int, fraction: int
) -> Array:
    """Return a share of the series for many elements. Each wave is an array of its own, or two."""
    bits, shift = _read(curve, fraction)
    table, drop, short = (
        _factor_pairs(curve, bits, middle),
        scale_bits(middle) - middle,
        short_waves(curve, middle),
    )
    made: Array = _inner_product(table, c, start, *shares, shift=shift, bits=bits, drop=drop, short=short)
    return made


def noise(curve: Curve, bits: int, middle: int) -> float:
    """Bound the error that the rounding of factors and waves to integers adds to the series."""
    count = len(curve.harmonics)
    factors, waves = _factors(curve, bits), np.concatenate(_waves(curve.harmonics, bits))
    public = np.exp2(-np.tile(public_bits(curve, middle), 2).astype(np.float64))[:, None]
    dealt = np.exp2(-np.tile(dealt_bits(curve, middle), 2).astype(np.float64))[:, None]
    wrong = factors - public_factors(curve, bits, middle) * public
    zeros = np.exp2(-SHORT * np.tile(short_waves(curve, middle), 2).astype(np.float64))[:, None]
    lost = waves - dealt_waves(curve, bits, middle) * zeros * dealt
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
