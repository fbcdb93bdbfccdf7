"""Roots of secret values of any size: they come to two octaves by a secret power of four."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ditto_kernels.inverse.whole_range import (
    WAVE_BITS,
    WIDE,
    Whole,
    chosen,
    fit_whole,
    landing_error,
    scaled_series,
    widened,
    zero_unless,
)
from ditto_kernels.products.multiply import finish_additive, multiply_dealt
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import from_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

Root = Literal["rsqrt", "sqrt"]
_EXPONENT = {"rsqrt": -0.5, "sqrt": 0.5}
_FEWEST_WAVE_BITS = 18  # with fewer a root would err by more than 2^-16 of itself


@dataclass(frozen=True)
class RootPlan:
    """The public decisions of one root."""

    plan: Whole
    levels: tuple[int, ...]  # what the series is multiplied by in each piece
    factor: int  # fraction bits of the series as a factor
    product: int  # fraction bits of that product
    landing: Fxp


@lru_cache(maxsize=64)
def fit_root(root: Root, x: Fxp, out: Fxp) -> RootPlan:
    """How the root of any positive x is computed. ValueError where the result has too many fraction bits."""
    exponent, pieces = _EXPONENT[root], (x.ring_bits - 2) // 2
    half, odd = divmod(x.fraction_bits, 2)
    # u = x 4^(pieces - 1 - j) ulp, so that x^(-1/2) is 2^(pieces - 1 - j) series 2^half / 2^(pieces - 1).
    powers = range(pieces) if root == "sqrt" else reversed(range(pieces))
    levels = tuple(2**each for each in powers)
    # The product has so many fraction bits beyond those of the series.
    extra = half if root == "sqrt" else pieces - 1 - half
    # The largest product: the largest level times a series of at most 2 sqrt(2) for sqrt, sqrt(2) for rsqrt.
    room = 61 - (pieces - 1) - (2 if root == "sqrt" else 1)
    free = WIDE - out.ring_bits + out.fraction_bits - extra
    wave_bits = min(room // 2, WAVE_BITS)
    if out.ring_bits < WIDE and free // 2 >= 15:
        wave_bits = min(wave_bits, free // 2)
    factor = 2 * wave_bits
    if wave_bits < _FEWEST_WAVE_BITS:  # the sum is truncated instead, for a round
        wave_bits = WAVE_BITS
    product = extra + factor
    scale = 2.0 ** (odd / 2) if root == "rsqrt" else 2.0 ** (-odd / 2)
    plan = fit_whole(exponent, 2 * pieces, wave_bits, scale)
    if product < out.fraction_bits:
        raise ValueError(f"{root} of {x} into {out}: too many fraction bits; the product has {product}")
    narrow = out.ring_bits < WIDE and out.ring_bits <= WIDE - (product - out.fraction_bits)
    return RootPlan(plan, levels, factor, product, out if narrow else Fxp(WIDE, out.fraction_bits))


def root_whole(party: Party, x: Rss, root: Root, out: Fxp) -> Protocol[Rss]:
    """x^(-1/2) or x^(1/2) for every positive x.

    Range: 1 ulp <= x < 2^(k-2) ulp; sqrt of values that are not positive is exactly 0, rsqrt of 0 is some
    number. Error: relative 3e-5, 2 ulp of `out`. Cost: for each of 14 thresholds (29 in ring 64) one
    comparison of x and one bit in ring 64; one series; two products, and three for sqrt. Rounds: 9 to 12.
    Security and source: see `divide_whole`.
    """
    how = fit_root(root, x.fxp, out)
    edges, rows = list(how.plan.edges), [list(how.plan.scales), list(how.levels)]
    if root == "sqrt":
        edges = [1, *edges]
        rows = [[0, *row] for row in (*rows, [1] * how.plan.pieces)]
    (scale, level, *positive), wide = yield from parallel(
        chosen(party.at("scale"), from_rss(party, x), edges, rows),
        widened(party.at("widen"), x),
    )
    series = yield from scaled_series(party.at("series"), wide, scale, how.plan)
    factor = yield from finish_additive(party.at("factor"), series, Fxp(WIDE, how.factor))
    tagged = level.retagged(Fxp(WIDE, how.product - how.factor))
    result = yield from multiply_dealt(party.at("product"), tagged, factor, how.landing)
    for bit in positive:
        result = yield from zero_unless(party.at("positive"), bit, result)
    return (yield from convert(party.at("cast"), result, out))


def root_error(how: RootPlan, out: Fxp, largest: float) -> float:
    """Error bound for roots of a magnitude up to `largest`."""
    return (how.plan.error + 2.0 ** (1 - how.factor)) * largest + landing_error(how.landing, out)


def _run_sqrt(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """sqrt(x) for every x that is not negative. See `root_whole`."""
    return (yield from root_whole(party, x, "sqrt", out))


def _sqrt_error(x: Spec, out: Fxp) -> float:
    assert x.fxp is not None
    return root_error(fit_root("sqrt", x.fxp, out), out, math.sqrt(x.fxp.limit / 2))


def _sqrt_reference(x: Array) -> Array:
    return np.sqrt(np.maximum(x, 0))


PAPER = (
    "own: two octaves by a secret power of four, then a dealt series; scaling after Catrina, Saxena (2010)"
)
SQRT = Kernel("sqrt", _run_sqrt, _sqrt_reference, _sqrt_error, PAPER)
