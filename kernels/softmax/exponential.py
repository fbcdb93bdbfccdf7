"""Compute the exponential of values in a declared range, as e^hi e^-(hi - x)."""

from __future__ import annotations

import math

import numpy as np

from ditto_kernels.inverse.whole_range import WHOLE, WHOLE_RANGE, WINDOW
from ditto_kernels.protocol.cost import elements
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, to_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.softmax.negative_exponential import Window, exp_negative, fit_window, range_variant
from ditto_kernels.softmax.whole_exponential import exponential_error, exponential_whole
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_LOG2_E = math.log2(math.e)
_WIDE = 64
_COARSE = 1e-3  # A larger error than this is worth a cast.


def _plan(fxp: Fxp, out: Fxp, lo: float, hi: float) -> tuple[Window, int]:
    """Return (window, hi in ulp) for the exponential of values in [lo, hi]."""
    top = math.ceil(hi / fxp.ulp)
    gain = top * fxp.ulp
    finest = Fxp(32, max(0, 29 - math.ceil(gain * _LOG2_E)))
    if out.ring_bits == _WIDE:
        return fit_window(
            fxp, 1.0, Fxp(32, min(out.fraction_bits, finest.fraction_bits)), gain, gain - lo
        ), top
    window = fit_window(fxp, 1.0, out, gain, gain - lo)
    if window.error > _COARSE and (out.ring_bits, out.fraction_bits) < (32, finest.fraction_bits):
        # Factors get the bits that the result's format leaves. A finer result and a cast serve a wide range.
        window = fit_window(fxp, 1.0, finest, gain, gain - lo)
    return window, top


def _run(
    party: Party,
    x: Rss,
    out: Fxp,
    lo: float = -8.0,
    hi: float = 8.0,
    approx: str = WINDOW,
    minus: int = 0,
) -> Protocol[Rss]:
    """Compute e^x - minus for x in the declared range [lo, hi], where minus is 0 or 1.

    Below the range the result falls to 0, and above it the result is wrong (0). Error: about 2^-13 of e^hi
    plus the rounding to `out` (see `_error`), so declare the least hi that holds. e^hi must fit `out` with
    one bit to spare. Cost and security: see `exp_negative`. approx = "whole" serves any x, with a relative
    error, by `exponential_whole`.
    """
    if approx == WHOLE:
        whole = yield from exponential_whole(party.at("whole"), x, out)
        return plus_constant(party, whole, -minus << out.fraction_bits)
    window, top = _plan(x.fxp, out, lo, hi)
    value = from_rss(party, x)
    share = np.asarray(top if party.role == "A" else 0).astype(x.fxp.dtype) - value.share
    result = yield from exp_negative(party, Additive(share, x.fxp), window)
    joined = yield from to_rss(party, result)
    cast = yield from convert(party.at("cast"), joined, out)
    return plus_constant(party, cast, -minus << out.fraction_bits)


def _error(
    x: Spec, out: Fxp, lo: float = -8.0, hi: float = 8.0, approx: str = WINDOW, minus: int = 0
) -> float:
    del minus
    assert x.fxp is not None
    if approx == WHOLE:
        return exponential_error(x.fxp, out, hi)
    window, top = _plan(x.fxp, out, lo, hi)
    cut = portable.exp(top * x.fxp.ulp) * 2.0**-window.reach
    dropped = 1.5 * out.ulp if window.out.fraction_bits > out.fraction_bits else 0.0
    return window.error + dropped + (cut if window.reach <= (top * x.fxp.ulp - lo) * _LOG2_E else 0.0)


def _variant(
    x: Spec, out: Fxp, worth: int, lo: float = -8.0, hi: float = 8.0, approx: str = WINDOW, minus: int = 0
) -> str:
    del minus
    assert x.fxp is not None
    if approx == WHOLE:
        return WHOLE_RANGE
    return range_variant(_plan(x.fxp, out, lo, hi)[0], x.fxp.ring_bits, elements(x.shape), worth)


def _reference(x: Array, minus: int = 0, **_: object) -> Array:
    return np.exp(x) - minus


EXPONENTIAL = Kernel(
    "exponential",
    _run,
    _reference,
    _error,
    "own: multiplicative masking of e^(c - r)",
    elementwise=True,
    variant=_variant,
)
