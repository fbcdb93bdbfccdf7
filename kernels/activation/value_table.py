"""A table of exact values takes the place of the series inside the window."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from ditto_kernels.activation.curve import NARROW, Curve
from ditto_kernels.activation.half_of_x import half, wrap_items, wrap_values
from ditto_kernels.activation.series import scale_bits
from ditto_kernels.bits.table_lookup import Entries, look_up
from ditto_kernels.protocol.party import Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp

INDEX_BITS = 10  # A table has 1024 entries, which is a step of 1/128 in a window of 8.

Function = Callable[[Any], Any]


def _grid(curve: Curve, fraction_bits: int) -> tuple[int, int]:
    """Return (bits of the index, bits of x below it). The window is the least power of two that holds it."""
    span = math.ceil(portable.log2(2 * curve.outer)) + fraction_bits
    return min(INDEX_BITS, span), max(0, span - INDEX_BITS)


@lru_cache(maxsize=32)
def _entries(curve: Curve, function: Function, fraction_bits: int, middle: int) -> Entries:
    """Tabulate the function at every index, less x/2 if the curve adds it.

    The entries of negative x follow those of the others.
    """
    bits, low = _grid(curve, fraction_bits)
    place = np.arange(1 << bits)
    x = np.where(place < 1 << (bits - 1), place, place - (1 << bits)) * 2.0 ** (low - fraction_bits)
    values = np.asarray(function(x)) - (x / 2 if curve.half else 0)
    return tuple(int(value) for value in np.rint(values * 2.0**middle))


def tabulated(party: Party, x: Opened, curve: Curve, function: Function, middle: int) -> Protocol[Additive]:
    """Look up `function` within the curve's `outer`, in format fxp16.`middle`.

    Error: `tabulated_error`. Rounds: 1. Cost and security: those of `table_lookup.look_up`, and two dealt
    bits for x/2.
    """
    entries = _entries(curve, function, x.fxp.fraction_bits, middle)
    found = look_up(party.at("entry"), x, entries, _grid(curve, x.fxp.fraction_bits)[1], NARROW)
    fxp = Fxp(NARROW, middle)
    if not curve.half:
        return Additive((yield from found).share, fxp)
    value, halved = yield from parallel(found, _half(party.at("half"), x, middle))
    return Additive(value.share + halved, fxp)


def _half(party: Party, x: Opened, middle: int) -> Protocol[Array]:
    """Return a share of x/2 in fxp16.`middle`. Error: below 1 ulp, and half of one if one bit drops."""
    dealt = yield from deal(party, wrap_items(x), lambda: wrap_values(x))
    scale = scale_bits(middle)
    share = half(party, x, dealt, scale)
    if party.role == "A":  # A rounds up and B down, so that the mean error is 0.
        share += np.int32((1 << (scale - middle)) - (1 << max(0, scale - x.fxp.fraction_bits - 1)))
    return (share >> np.int32(scale - middle)).astype(np.int16)


def tabulated_error(x: Fxp, curve: Curve, middle: int) -> float:
    """Bound the error: a neighbour's entry, the rounding of the entries, and the rounding of x/2."""
    low = _grid(curve, x.fraction_bits)[1]
    away = 2.0**-x.fraction_bits * ((1 << low) - 1)
    lost = 1.0 - 2.0 ** (middle - x.fraction_bits - 1) if curve.half else 0.0  # the rounding of x/2, in ulp
    return curve.slope * away + (0.5 + lost) * 2.0**-middle
