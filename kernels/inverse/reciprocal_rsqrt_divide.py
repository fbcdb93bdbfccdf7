"""The kernels for 1/x, 1/sqrt(x) and x/y serve declared ranges, and values of any size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ditto_kernels.bits.select import to_arithmetic
from ditto_kernels.bits.signs import signs
from ditto_kernels.inverse.by_octaves import Power
from ditto_kernels.inverse.by_thresholds import Table, fit_table, inverse
from ditto_kernels.inverse.whole_range import (
    WHOLE,
    WHOLE_RANGE,
    WINDOW,
    divide_whole,
    fit_quotient,
    quotient_error,
)
from ditto_kernels.inverse.whole_roots import fit_root, root_error, root_whole
from ditto_kernels.products.multiply import multiply
from ditto_kernels.protocol.cost import elements
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_WAVE_BITS = 16  # With fewer, the rounding of the series exceeds the error of its fit.


def _table_for(power: Power, fxp: Fxp, lo: float, hi: float, out: Fxp) -> tuple[Table, Fxp]:
    """Return (table, format of the last product): `out` itself if that leaves the series bits enough."""
    if out.ring_bits < _WIDE:
        table = fit_table(power, fxp, lo, hi, out)
        if table.wave_bits >= _WAVE_BITS and table.result_bits >= out.fraction_bits:
            return table, out
    landing = Fxp(_WIDE, out.fraction_bits)
    table = fit_table(power, fxp, lo, hi, landing)
    return table, Fxp(_WIDE, min(out.fraction_bits, table.result_bits))


def _run(power: Power, party: Party, x: Rss, out: Fxp, lo: float, hi: float) -> Protocol[Rss]:
    table, landing = _table_for(power, x.fxp, lo, hi, out)
    result = yield from inverse(party.at(power), x, table, landing)
    return (yield from convert(party.at("cast"), result, out))


def _error(power: Power, x: Spec, out: Fxp, lo: float, hi: float) -> float:
    assert x.fxp is not None
    table, _ = _table_for(power, x.fxp, lo, hi, out)
    return table.error * lo ** (-1.0 if power == "reciprocal" else -0.5) + 3 * out.ulp


def _variant(power: Power, x: Spec, out: Fxp, lo: float, hi: float, worth: int) -> str:
    assert x.fxp is not None
    return _table_for(power, x.fxp, lo, hi, out)[0].variant(elements(x.shape), worth)


def _run_reciprocal(party: Party, x: Rss, out: Fxp, lo: float = 0.5, hi: float = 1024.0) -> Protocol[Rss]:
    """Compute 1/x for positive x in the declared [lo, hi]. See `inverse`."""
    return (yield from _run("reciprocal", party, x, out, lo, hi))


def _run_rsqrt(
    party: Party, x: Rss, out: Fxp, lo: float = 2.0**-9, hi: float = 256.0, approx: str = WINDOW
) -> Protocol[Rss]:
    """Compute 1/sqrt(x) for positive x in the declared [lo, hi] by `inverse`, or for any by `root_whole`."""
    if approx == WHOLE:
        return (yield from root_whole(party.at("whole"), x, "rsqrt", out))
    return (yield from _run("rsqrt", party, x, out, lo, hi))


def _reciprocal_error(x: Spec, out: Fxp, lo: float = 0.5, hi: float = 1024.0) -> float:
    return _error("reciprocal", x, out, lo, hi)


def _rsqrt_error(x: Spec, out: Fxp, lo: float = 2.0**-9, hi: float = 256.0, approx: str = WINDOW) -> float:
    if approx == WHOLE:
        assert x.fxp is not None
        return root_error(fit_root("rsqrt", x.fxp, out), out, lo**-0.5)
    return _error("rsqrt", x, out, lo, hi)


def _reciprocal_variant(x: Spec, out: Fxp, worth: int, lo: float = 0.5, hi: float = 1024.0) -> str:
    return _variant("reciprocal", x, out, lo, hi, worth)


def _rsqrt_variant(
    x: Spec, out: Fxp, worth: int, lo: float = 2.0**-9, hi: float = 256.0, approx: str = WINDOW
) -> str:
    if approx == WHOLE:
        return WHOLE_RANGE
    return _variant("rsqrt", x, out, lo, hi, worth)


def _reciprocal_reference(x: Array, **_: Any) -> Array:
    return 1 / np.asarray(x)


def _rsqrt_reference(x: Array, **_: Any) -> Array:
    return 1 / np.sqrt(x)


_PAPER = "own: all thresholds on one opening, then a dealt series of the guess's error"
RECIPROCAL = Kernel(
    "reciprocal",
    _run_reciprocal,
    _reciprocal_reference,
    _reciprocal_error,
    _PAPER,
    variant=_reciprocal_variant,
)
RSQRT = Kernel("rsqrt", _run_rsqrt, _rsqrt_reference, _rsqrt_error, _PAPER, variant=_rsqrt_variant)


def _quotient(x: Fxp, out: Fxp, lo: float, range: float) -> tuple[Fxp, Fxp]:
    """Return (format of 1/y, format of x * (1/y)).

    The product takes a free truncation where that leaves 1/y enough bits.
    """
    most = min(
        61 - x.fraction_bits - math.ceil(portable.log2(range)), 60 - max(0, math.ceil(-portable.log2(lo)))
    )
    free = _WIDE - out.ring_bits + out.fraction_bits - x.fraction_bits
    if out.ring_bits < _WIDE and min(free, most) >= 20:
        return Fxp(_WIDE, min(free, most, 40)), out
    return Fxp(_WIDE, max(1, min(most, 40))), Fxp(_WIDE, out.fraction_bits)


def _run_divide(
    party: Party,
    x: Rss | Array,
    y: Rss,
    out: Fxp,
    lo: float = 0.5,
    hi: float = 1024.0,
    signed: bool = False,
    range: float = 256.0,
    approx: str = WINDOW,
) -> Protocol[Rss]:
    """Compute x / y for lo <= y <= hi, or lo <= |y| <= hi if `signed`. y broadcasts to x.

    Range: |x / y| <= `range`, which is declared, and which `out` holds. Error: relative 1e-4 of x / y, and
    1.5 ulp of `out`. Cost: `inverse` on y, a widening of x and one product. A sign takes 3 or 4 more rounds.
    Security: that of the parts.

    With approx = "whole", `divide_whole` serves any y, and x may be public. Raises ValueError for a public x
    otherwise.
    """
    if approx == WHOLE:
        return (yield from divide_whole(party.at("whole"), x, y, out))
    if not isinstance(x, Rss):
        raise ValueError("a public dividend takes the division of any size")
    wide = yield from convert(party.at("widen"), x, Fxp(_WIDE, x.fxp.fraction_bits))
    sign = None
    if signed:
        sign, y = yield from _sign_and_magnitude(party.at("sign"), y)
    inverted, landing = _quotient(x.fxp, out, lo, range)
    table, middle = _table_for("reciprocal", y.fxp, lo, hi, inverted)
    value = yield from inverse(party.at("inverse"), y, table, middle)
    value = yield from convert(party.at("inverse_cast"), value, inverted)
    if sign is not None:
        value = yield from multiply(party.at("signed"), value, sign, inverted)
    product = yield from multiply(party.at("product"), wide, value, landing)
    return (yield from convert(party.at("cast"), product, out))


def _sign_and_magnitude(party: Party, y: Rss) -> Protocol[tuple[Rss, Rss]]:
    """Return (1 or -1 in ring 64, |y|)."""
    opened = yield from open_masked(party.at("open"), from_rss(party, y))
    below = yield from signs(party.at("below"), opened)
    bits = yield from to_arithmetic(party.at("bits"), below, y.size, Fxp(_WIDE, 0))
    negative = yield from to_rss(party.at("replicate"), Additive(bits.share[0].reshape(y.shape), bits.fxp))
    sign = plus_constant(party, negative, 1, -2)
    dtype = y.fxp.dtype
    narrow = Rss(sign.mine.astype(dtype), sign.next.astype(dtype), Fxp(y.fxp.ring_bits, 0))
    magnitude = yield from multiply(party.at("magnitude"), y, narrow, y.fxp)
    return sign, magnitude


def _divide_error(
    x: Spec,
    y: Spec,
    out: Fxp,
    lo: float = 0.5,
    hi: float = 1024.0,
    signed: bool = False,
    range: float = 256.0,
    approx: str = WINDOW,
) -> float:
    """Bound the error for results that `out` holds."""
    assert y.fxp is not None
    if approx == WHOLE:
        how = fit_quotient(x.fxp, y.fxp, out)
        return quotient_error(how, out, range) + (2.0 ** -(how.dividend + 1) / lo if x.fxp is None else 0.0)
    assert x.fxp is not None
    inverted, _ = _quotient(x.fxp, out, lo, range)
    table, _ = _table_for("reciprocal", y.fxp, lo, hi, inverted)
    return (table.error + 3 * inverted.ulp * hi) * range + 3 * out.ulp


def _divide_variant(
    x: Spec,
    y: Spec,
    out: Fxp,
    worth: int,
    lo: float = 0.5,
    hi: float = 1024.0,
    range: float = 256.0,
    approx: str = WINDOW,
    **_: Any,
) -> str:
    if approx == WHOLE:
        return WHOLE_RANGE
    assert x.fxp is not None
    return _variant("reciprocal", y, _quotient(x.fxp, out, lo, range)[0], lo, hi, worth)


def _divide_reference(x: Array, y: Array, **_: Any) -> Array:
    return np.asarray(x) / np.asarray(y)


DIVIDE = Kernel("divide", _run_divide, _divide_reference, _divide_error, _PAPER, variant=_divide_variant)
