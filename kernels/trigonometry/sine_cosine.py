"""The sine and the cosine of secret values of any size take one masked opening and a local product."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ditto_kernels.products.multiply import finish_additive
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked
from ditto_kernels.trigonometry.turns import QUARTER, angle_of, angles, waves
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_MOST_BITS = 30  # of a wave, whose products have twice as many and stay below 2^62
WAVES = ("sine", "cosine")


@lru_cache(maxsize=64)
def wave_bits(out: Fxp) -> int:
    """Return the fraction bits of a wave. ValueError where the result has more than the product.

    A product of two waves is truncated into a smaller ring at once, so that it drops 64 - k bits at most.
    """
    bits = min(_MOST_BITS, (_WIDE - out.ring_bits + out.fraction_bits) // 2)
    if out.ring_bits == _WIDE:
        bits = _MOST_BITS
    if 2 * bits < out.fraction_bits:
        raise ValueError(f"a sine into {out}: at most {2 * bits} fraction bits")
    return bits


def _rounded(real: Array, bits: int) -> Array:
    return np.rint(real * 2.0**bits).astype(np.int64)


def _dealt(mask: Array, fraction_bits: int, bits: int) -> Array:
    """Return cosine and sine of the mask, once as an unsigned and once as a signed number."""
    unsigned_angle = angles(mask, fraction_bits)
    ring = angle_of(1 << (8 * mask.dtype.itemsize), fraction_bits)
    signed_angle = unsigned_angle - np.where(mask < 0, ring, np.uint64(0))
    parts = [*waves(unsigned_angle), *waves(signed_angle)]
    return np.stack([_rounded(each, bits) for each in parts])


@local_step(lambda c, dealt, *_: absent(c.shape, dealt.dtype))
def _product(c: Array, dealt: Array, fraction_bits: int, start: int, bits: int) -> Array:
    """Return a share of the sine of c - r, plus a public angle."""
    cosine, sine = (_rounded(each, bits) for each in waves(angles(c, fraction_bits) + np.uint64(start)))
    unsigned_mask = c < 0
    even = np.where(unsigned_mask, dealt[0], dealt[2])
    odd = np.where(unsigned_mask, dealt[1], dealt[3])
    return np.asarray(sine * even - cosine * odd)


def _run(party: Party, x: Rss, out: Fxp, wave: str = "sine") -> Protocol[Rss]:
    """Compute sin(x) or cos(x), for x in radians.

    c = x + 2^(k-2) + r is opened. As x + 2^(k-2) is below half of the ring, c wraps if and only if its
    highest bit is 0 and that of r is 1. So x + 2^(k-2) is c less r, where r is read as a signed number if the
    highest bit of c is 0, and else as an unsigned one. The dealer deals cosine and sine of both readings, and
    A and B choose by the opened c: sin(c - r) = sin c cos r - cos c sin r. Angles are exact to 2^-63 turns.
    Range: |x| < 2^(k-2) ulp. Error: 2^-(w-1) for waves of w bits (30, or fewer in smaller rings) and 1.5 ulp
    of `out`, whatever the size of x. Cost: one opening and 256 dealt bits. Rounds: 1, then 1 to reshare, or 2
    into ring 64. Security: x is opened under a full-width one-time mask; the dealt waves are additive shares
    in ring 64 that depend on r alone. Source: own.
    """
    if wave not in WAVES:
        raise ValueError(f"there is no wave '{wave}'")
    ring, fraction, bits = x.fxp.ring_bits, x.fxp.fraction_bits, wave_bits(out)
    bias = 1 << (ring - 2)
    opened = yield from open_masked(party, from_rss(party, x), bias=bias)
    item = Deal("waves", (4, *x.shape), np.dtype(np.int64))
    (dealt,) = yield from deal(party, [item], lambda: [_dealt(opened.mask, fraction, bits)])
    start = ((QUARTER if wave == "cosine" else 0) - int(angle_of(bias, fraction))) % 2**64
    share = _product(opened.c, dealt, fraction, start, bits)
    return (yield from finish_additive(party.at("result"), Additive(share, Fxp(_WIDE, 2 * bits)), out))


def _reference(x: Array, wave: str = "sine") -> Array:
    return np.sin(x) if wave == "sine" else np.cos(x)


def _error(x: Spec, out: Fxp, wave: str = "sine") -> float:
    return 2.0 ** -(wave_bits(out) - 1) * (1 + 2.0**-8) + 1.5 * out.ulp


SINE = Kernel(
    "sine", _run, _reference, _error, "own: dealt waves of both readings of the mask", elementwise=True
)
