"""Earlier work has other numerators of softmax: PUMA's clipped power, MPCFormer's 2Quad and 2ReLU."""

from __future__ import annotations

import math

import numpy as np

from ditto_kernels.bits.select import multiply_bits, to_arithmetic
from ditto_kernels.bits.signs import signs
from ditto_kernels.products.multiply import multiply
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import truncate, upcast
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_SCALE_BITS = 20
_CLIP = 14.0
_SQUARINGS = 5


def _scaled(party: Party, x: Rss, factor: float, bits: int) -> Protocol[Rss]:
    """Return factor * x with `bits` fraction bits, in x's ring."""
    drop = x.fxp.fraction_bits + _SCALE_BITS - bits
    shift = _SCALE_BITS + max(0, -drop)
    whole = plus_constant(party, x, 0, round(factor * 2.0**shift)).retagged(
        Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + shift)
    )
    return (yield from truncate(party, whole, drop)) if drop > 0 else whole


def _wide(party: Party, x: Rss | Additive) -> Protocol[Rss]:
    if x.fxp.ring_bits < 64:
        return (yield from upcast(party, x, 64))
    if isinstance(x, Additive):
        return (yield from to_rss(party, x))
    return x


def clip_threshold(fxp: Fxp, scale: float) -> int:
    """Return the distance max - x, in ulp, from which PUMA's exponential is 0."""
    return max(1, math.ceil(_CLIP / (scale * fxp.ulp)))


def puma(party: Party, distance: Additive, scale: float, inner: Fxp) -> Protocol[Rss]:
    """Compute (1 - s T / 32)^32 where s T < 14, else 0. T = max - x is a 2-of-2 sharing.

    Range: T < 2^(k-2) ulp. Error: 0.0086 by the approximation, and 32 ulp of `inner` by rounding. Security: T
    is opened under a full-width mask, and the rest is made of `signs`, `to_arithmetic` and `multiply`.
    Source: PUMA, arXiv 2307.12533.
    """
    opened = yield from open_masked(party.at("open"), distance)
    below = yield from signs(party.at("sign"), opened, [-clip_threshold(distance.fxp, scale)])
    bits = yield from to_arithmetic(party.at("bits"), below, distance.size, Fxp(64, 0))
    keep = yield from to_rss(party.at("keep"), Additive(bits.share[0].reshape(distance.shape), bits.fxp))
    wide = yield from _wide(party.at("widen"), distance)
    base = yield from _scaled(party.at("scale"), wide, -scale / 2**_SQUARINGS, inner.fraction_bits)
    power = plus_constant(party, base, 1 << inner.fraction_bits)
    for step in range(_SQUARINGS):
        power = yield from multiply(party.at(f"square{step}"), power, power, inner)
    return (yield from multiply(party.at("clip"), power, keep, inner))


def two_quad(party: Party, x: Rss, scale: float, inner: Fxp) -> Protocol[Rss]:
    """Compute (s x + 5)^2. Range: |s x + 5| < 2^10. Source: MPCFormer, arXiv 2211.01452."""
    wide = yield from _wide(party.at("widen"), x)
    root = yield from _scaled(party.at("scale"), wide, scale, inner.fraction_bits)
    root = plus_constant(party, root, 5 << inner.fraction_bits)
    return (yield from multiply(party.at("square"), root, root, inner))


def two_relu(party: Party, x: Rss, scale: float, inner: Fxp) -> Protocol[Rss]:
    """Compute relu(s x). Range: |x| < 2^(k-2) ulp. Source: MPCFormer, arXiv 2211.01452."""
    value = from_rss(party, x)
    opened = yield from open_masked(party.at("open"), value)
    negative = yield from signs(party.at("sign"), opened)
    part = yield from multiply_bits(party.at("select"), negative, opened)
    share = value.share - part.share[0] if scale > 0 else part.share[0]
    wide = yield from _wide(party.at("widen"), Additive(share, x.fxp))
    return (yield from _scaled(party.at("scale"), wide, scale, inner.fraction_bits))


def numerator_reference(approx: str, distance: Array, scores: Array) -> Array:
    """Compute plaintext numerators from the scaled distance max - x and from scaled scores."""
    if approx == "puma":
        return np.where(distance < _CLIP, (1 - distance / 2**_SQUARINGS) ** 2**_SQUARINGS, 0.0)
    if approx == "2quad":
        return (scores + 5) ** 2
    if approx == "2relu":
        return np.maximum(scores, 0)
    return np.exp(-distance)
