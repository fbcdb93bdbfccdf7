"""Evaluate smooth functions with a small error relative to the step of ring 64: a clamp and a longer series.

`clipped.py` computes the value within the window in ring 16, with an error of some 0.001. Here the operand is
brought into the window first. A series of up to 28 harmonics in ring 64 follows, with an error of some 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from ditto_kernels.activation.clipped import minus, plus, row
from ditto_kernels.activation.smooth_series_tables import Smooth
from ditto_kernels.bits.select import multiply_each
from ditto_kernels.bits.signs import signs
from ditto_kernels.products.multiply import finish_additive
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import convert, upcast
from ditto_kernels.values import portable
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_MOST_BITS = 28  # fraction bits of a wave: products have twice as many, and values reach 15


@lru_cache(maxsize=64)
def _wave_bits(x: Fxp, out: Fxp) -> int:
    """Return the fraction bits of a wave. Raises ValueError where formats have too many fraction bits.

    A product of two waves is truncated into a smaller ring at once, so that it drops 64 - k bits at most.
    """
    narrowed = (_WIDE - out.ring_bits + out.fraction_bits) // 2
    bits = _MOST_BITS if out.ring_bits == _WIDE else min(_MOST_BITS, narrowed)
    if 2 * bits < max(out.fraction_bits, x.fraction_bits + 1):
        raise ValueError(f"a precise function of {x} into {out}: take fewer fraction bits")
    return bits


def _waves(value: Array, curve: Smooth, fraction_bits: int) -> Iterator[tuple[Array, Array]]:
    """Yield cosine and sine of every harmonic of ring elements.

    Each harmonic turns the last one further. This takes sums and products alone, so that all machines get the
    same bits.
    """
    period = curve.period_bits + fraction_bits
    turns = (value & np.int64((1 << period) - 1)).astype(np.float64) * 2.0**-period
    cosine, sine = portable.waves(turns)
    step = curve.harmonics[1] - curve.harmonics[0]
    turn, tilt = (cosine, sine) if step == 1 else portable.waves(step * turns)
    for _ in curve.harmonics:
        yield cosine, sine
        cosine, sine = cosine * turn - sine * tilt, sine * turn + cosine * tilt


def _dealt(mask: Array, curve: Smooth, fraction_bits: int, bits: int) -> Array:
    """Return the dealer's waves: the cosines and the sines of every harmonic of the mask."""
    made = np.empty((2, len(curve.harmonics), *mask.shape), np.int64)
    for place, waves in enumerate(_waves(mask, curve, fraction_bits)):
        for kind, wave in enumerate(waves):
            made[kind, place] = np.rint(wave * 2.0**bits)
    return made


@local_step(lambda c, dealt, *_: absent(c.shape, dealt.dtype))
def _share(c: Array, dealt: Array, curve: Smooth, fraction_bits: int, bits: int, leader: bool) -> Array:
    """Return a share of the series at c - r."""
    constant, *factors = curve.coefficients
    total = np.full(c.shape, round(constant * 4.0**bits) if leader else 0, np.int64)
    for place, (cosine, sine) in enumerate(_waves(c, curve, fraction_bits)):
        # cos(c - r) = cos c cos r + sin c sin r, and sin(c - r) = sin c cos r - cos c sin r
        first, second = (cosine, sine) if curve.half else (sine, -cosine)
        factor = factors[place] * 2.0**bits
        first, second = first * factor, second * factor
        if curve.sines:
            more = curve.sines[place] * 2.0**bits
            first, second = first + sine * more, second - cosine * more
        for kind, part in enumerate((first, second)):
            total += np.rint(part).astype(np.int64) * dealt[kind, place]
    return total


def smooth(party: Party, x: Rss, curve: Smooth, out: Fxp) -> Protocol[Rss]:
    """Evaluate `curve` at every element of x, and return the result in format `out`.

    1. x is opened and compared with both ends of the window, and the bits bring it there: y.
    2. y is opened. The dealer deals the waves of its mask, and products with the waves of the opening add up
       to the series. The period is a power of two, so that a wrap of the opening does not matter.
    3. Where x itself is the upper tail, x - y is added above the window.

    Range: |x| + outer < half of x's ring, |x| < a quarter of it because of casts, and `out` holds the result.
    Error: `smooth_error`, some 1e-5. Cost: 128 dealt bits for each of the 10 to 28 harmonics, and two
    openings. Rounds: open, compare, choose, open, and 2 to reshare into ring 64; 8 from ring 64. Security: x,
    y and the bits are opened under full-width one-time masks, and the dealt waves are additive shares in ring
    64 that depend on a mask alone. Source: own, see `series.py`.
    """
    if x.fxp.ring_bits < _WIDE:
        x = yield from upcast(party.at("widen"), x, _WIDE)
    fraction, bits = x.fxp.fraction_bits, _wave_bits(x.fxp, out)
    low = max(0, fraction + math.floor(portable.log2(curve.outer - curve.bound)))
    offsets = [round(end * 2.0**fraction) for end in (-curve.outer, curve.bound)]
    own = from_rss(party, x)
    opened = yield from open_masked(party.at("operand"), own)
    places = yield from signs(party.at("signs"), opened, offsets, low)
    not_above, below = yield from multiply_each(
        party.at("chosen"),
        (row(places, 0), minus(opened, curve.bound)),
        (row(places, 1), minus(opened, -curve.bound)),
    )
    inside = plus(party, Additive(not_above.share - below.share, x.fxp), curve.bound)
    argument = yield from open_masked(party.at("argument"), inside)
    item = Deal("waves", (2, len(curve.harmonics), *x.shape), np.dtype(np.int64))
    (dealt,) = yield from deal(
        party.at("series"), [item], lambda: [_dealt(argument.mask, curve, fraction, bits)]
    )
    share = _share(argument.c, dealt, curve, fraction, bits, party.role == "A")
    if not curve.half:
        return (yield from finish_additive(party.at("result"), Additive(share, Fxp(_WIDE, 2 * bits)), out))
    share = share + (inside.share << np.int64(2 * bits - fraction - 1))
    beyond = plus(party, Additive(own.share - not_above.share, x.fxp), -curve.bound)
    value, above = yield from parallel(
        finish_additive(party.at("result"), Additive(share, Fxp(_WIDE, 2 * bits)), out),
        to_rss(party.at("above"), beyond),
    )
    tail = yield from convert(party.at("above/convert"), above, out)
    return Rss(value.mine + tail.mine, value.next + tail.next, out)


def smooth_error(x: Fxp, curve: Smooth, out: Fxp) -> float:
    """Bound the error: the fit, the tails, the rounding of waves and factors, and the truncations."""
    bits, count = _wave_bits(x, out), len(curve.harmonics)
    amplitudes = sum(map(abs, (*curve.coefficients, *curve.sines)))
    noise = math.sqrt(2) * (amplitudes + count) * 2.0 ** -(bits + 1) * (1 + 2.0**-8)
    truncations = 2 if curve.half and out.fraction_bits < x.fraction_bits else 1
    return curve.fit_error + curve.tail_error + noise + 1.5 * truncations * out.ulp
