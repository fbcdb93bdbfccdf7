"""Odd functions of a bounded argument (atan, asin, erf) are sine series of one masked opening."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ditto_kernels.products.multiply import finish_additive
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked
from ditto_kernels.trigonometry.odd_series_tables import ODD_SERIES, OddSeries
from ditto_kernels.trigonometry.sine_cosine import wave_bits
from ditto_kernels.trigonometry.turns import Angles, waves
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64


def _series(function: str, x: Fxp) -> tuple[OddSeries, int]:
    """Return the series of a function, and its period as a power of two of ulp."""
    if function not in ODD_SERIES:
        raise ValueError(f"there is no series of '{function}': choose {' or '.join(ODD_SERIES)}")
    series = ODD_SERIES[function]
    period = series.period_bits + x.fraction_bits
    if period > x.ring_bits:
        raise ValueError(
            f"{function} of {x}: its ring has no period of {2**series.period_bits}, take fewer fraction bits"
        )
    return series, period


def _angles(value: Array, period: int) -> Angles:
    """Return the angles of ring elements, of which 2^period are a turn."""
    return value.astype(np.int64).view(np.uint64) << np.uint64(_WIDE - period)


def _multiples(angle: Angles, count: int) -> Array:
    """Return cosine and sine of every multiple of the angles: (2, count, ...)."""
    places = np.arange(1, count + 1, dtype=np.uint64).reshape(-1, *(1 for _ in angle.shape))
    return np.stack(waves(angle * places))


def _dealt(mask: Array, count: int, period: int, bits: int) -> Array:
    return np.rint(_multiples(_angles(mask, period), count) * 2.0**bits).astype(np.int64)


@local_step(lambda c, dealt, *_: absent(c.shape, dealt.dtype))
def _share(c: Array, dealt: Array, coefficients: tuple[float, ...], period: int, bits: int) -> Array:
    """Return a share of the series at c - r."""
    cosine, sine = _multiples(_angles(c, period), len(coefficients))
    factor = np.reshape(coefficients, (-1, *(1 for _ in c.shape))) * 2.0**bits
    even, odd = (np.rint(each * factor).astype(np.int64) for each in (sine, cosine))
    return np.asarray((even * dealt[0] - odd * dealt[1]).sum(axis=0, dtype=np.int64))


def _run(party: Party, x: Rss, out: Fxp, function: str = "atan") -> Protocol[Rss]:
    """Compute atan, asin or erf of every element.

    c = x + r is opened. With dealt cosines and sines of multiples of r the sines of multiples of c - r are
    local. The period is a power of two, so that a wrap of c does not matter.
    Range: |x| <= 1 for atan, 1/2 for asin, 4 for erf. Error: that of the fit (1.6e-7, 8.5e-9, 8.1e-7), that
    of rounded waves, and 1.5 ulp of `out`. Cost: one opening and 128 dealt bits for each harmonic (8, 6, 12).
    Rounds: 1, then 1 to reshare, or 2 into ring 64. Security: x is opened under a full-width one-time mask;
    the dealt waves are additive shares in ring 64 that depend on r alone. Source: own, see
    `activation/series.py`.
    """
    series, period = _series(function, x.fxp)
    bits, count = wave_bits(out), len(series.coefficients)
    opened = yield from open_masked(party, from_rss(party, x))
    item = Deal("waves", (2, count, *x.shape), np.dtype(np.int64))
    (dealt,) = yield from deal(party, [item], lambda: [_dealt(opened.mask, count, period, bits)])
    share = _share(opened.c, dealt, series.coefficients, period, bits)
    return (yield from finish_additive(party.at("result"), Additive(share, Fxp(_WIDE, 2 * bits)), out))


def _reference(x: Array, function: str = "atan") -> Any:
    if function == "erf":
        return np.vectorize(math.erf, otypes=[np.float64])(x)
    return np.arctan(x) if function == "atan" else np.arcsin(x)


@lru_cache(maxsize=64)
def _noise(series: OddSeries, bits: int) -> float:
    """Bound the error of rounded factors and waves."""
    amplitudes = sum(map(abs, series.coefficients))
    return math.sqrt(2) * (amplitudes + len(series.coefficients)) * 2.0 ** -(bits + 1) * (1 + 2.0**-8)


def _error(x: Spec, out: Fxp, function: str = "atan") -> float:
    assert x.fxp is not None
    series, _ = _series(function, x.fxp)
    return series.fit_error + _noise(series, wave_bits(out)) + 1.5 * out.ulp


ODD = Kernel(
    "odd_series", _run, _reference, _error, "own: a dealt sine series, as for activations", elementwise=True
)
