"""The logarithm of every positive value: each comes to two octaves by a secret power of four."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ditto_kernels.inverse.by_octaves import noise
from ditto_kernels.inverse.whole_range import (
    INTEGER,
    Series,
    Whole,
    chosen,
    series_of,
    widened,
    zero_unless,
)
from ditto_kernels.products.multiply import finish_additive, multiply
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive, from_rss
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_WAVE_BITS = 24
# log(2 v) for v from 1/2 to 2, where v = 4 is a period: constant, then cosine and sine of every harmonic.
# These are least squares over 64 Chebyshev nodes. They err by less than 2.1e-7.
_COEFFICIENTS = (
    -0.8426858233063,
    -2.56499072066,
    1.916625135383,
    0.237248473739,
    1.836656156119,
    0.836945688358,
    0.3234534863174,
    0.2563063361375,
    -0.2245971969745,
    -0.02347858449509,
    -0.09222216864699,
    -0.01708069514699,
    -0.003662884533201,
    -0.0009823159616613,
    0.001254900850148,
)
_FIT_ERROR = 2.1e-7


@lru_cache(maxsize=64)
def fit_logarithm(x: Fxp, out: Fxp) -> Whole:
    """How the logarithm of any positive x is computed. ValueError for too many fraction bits of `out`."""
    pieces = (x.ring_bits - 2) // 2
    # The series is truncated into the ring of the result at once, so that it drops 64 - k bits at most.
    wave_bits = min(_WAVE_BITS, (_WIDE - out.ring_bits + out.fraction_bits) // 2)
    if out.ring_bits == _WIDE:
        wave_bits = _WAVE_BITS
    if 2 * wave_bits <= out.fraction_bits:
        raise ValueError(f"log into {out}: at most {2 * wave_bits - 1} fraction bits")
    error = _FIT_ERROR + noise(_COEFFICIENTS, wave_bits)
    return Whole(pieces, Series(2 * pieces + 1, _COEFFICIENTS, wave_bits, error))


def _run(party: Party, x: Rss, out: Fxp, plus: int = 0) -> Protocol[Rss]:
    """Compute log(x + plus), where plus is 0 or 1. The result of log(1 + 0) is exactly 0.

    Range: 1 ulp <= x + plus < 2^(k-2) ulp. Of other values the result is some number. Error: 1e-6 and 1.5
    ulp of `out`, whatever the size of x, for x as its format holds it. Cost: for each of 14 thresholds (30
    in ring 64) one comparison of x and one bit in ring 64; one product, and two for log(1 + x); one series.
    Rounds: those of `root_whole` less its last product. Security: x and the scaled x are opened under
    full-width masks, threshold bits under one-time masks, and products leave under zero shares. Source: own;
    scaling as in `divide_whole`.
    """
    plan = fit_logarithm(x.fxp, out)
    value = from_rss(party, x)
    if plus:
        one = np.asarray(plus << x.fxp.fraction_bits).astype(x.fxp.dtype)
        value = Additive(value.share + one if party.role == "A" else value.share, x.fxp)
    unit = 2.0 ** (2 * plan.series.wave_bits) * math.log(2)
    levels = [round((2 * piece - x.fxp.fraction_bits) * unit) for piece in range(plan.pieces)]
    edges, rows = list(plan.edges), [list(plan.scales), levels]
    if plus:
        edges, rows = _with_zero(edges, rows, plus << x.fxp.fraction_bits)
    (scale, level, *elsewhere), wide = yield from parallel(
        chosen(party.at("scale"), value, edges, rows),
        widened(party.at("widen"), x),
    )
    scaled = yield from multiply(party.at("scaled"), wide, scale, INTEGER)
    if plus:
        rise = np.int64(plus << x.fxp.fraction_bits)
        scaled = Rss(scaled.mine + scale.mine * rise, scaled.next + scale.next * rise, INTEGER)
    series = yield from series_of(party.at("series"), scaled, plan.series)
    total = Additive(series.share + from_rss(party, level).share, series.fxp)
    result = yield from finish_additive(party.at("result"), total, out)
    for bit in elsewhere:
        result = yield from zero_unless(party.at("zero"), bit, result)
    return result


def _with_zero(
    edges: Sequence[int], rows: Sequence[Sequence[int]], one: int
) -> tuple[list[int], list[list[int]]]:
    """Edges and rows of levels with further edges around `one`, and a further row that is 0 there alone."""
    more = sorted({*edges, one, one + 1})
    pieces = [bisect_right(edges, edge) for edge in more]
    return more, [
        *([row[0], *(row[piece] for piece in pieces)] for row in rows),
        [1, *(int(edge != one) for edge in more)],
    ]


def _error(x: Spec, out: Fxp, plus: int = 0) -> float:
    assert x.fxp is not None
    return fit_logarithm(x.fxp, out).error + 1.5 * out.ulp


def _reference(x: Array, plus: int = 0) -> Array:
    return np.log(x + plus)


LOG = Kernel(
    "log", _run, _reference, _error, "own: two octaves by a secret power of four, then a dealt series"
)
