"""Evaluate a function by a series or a table inside a window and by tails outside; two bits choose."""

from __future__ import annotations

import math

import numpy as np

from ditto_kernels.activation.curve import NARROW, Curve
from ditto_kernels.activation.series import series, series_error
from ditto_kernels.activation.value_table import Function, tabulated, tabulated_error
from ditto_kernels.bits import one_hot_digits
from ditto_kernels.bits.bit_planes import Bits
from ditto_kernels.bits.lifted_select import Choice, multiply_lifted
from ditto_kernels.bits.select import multiply_each
from ditto_kernels.bits.signs import signs
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.cost import elements
from ditto_kernels.protocol.kernel import Spec, listed
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.sharing.additive import (
    Additive,
    Opened,
    from_rss,
    open_masked,
    to_rss,
)
from ditto_kernels.sharing.casts import convert
from ditto_kernels.sharing.release import release
from ditto_kernels.sharing.two_shares import lift_shares
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss


def middle_bits(curve: Curve, x: Fxp, out: Fxp) -> int:
    """Return the fraction bits of the window's value."""
    if curve.above is not None:
        return min(out.fraction_bits, curve.narrow_bits)
    return x.fraction_bits if x.ring_bits == NARROW else min(x.fraction_bits, curve.narrow_bits)


def _window(curve: Curve, x: Fxp) -> tuple[tuple[int, int], int]:
    """Return (offsets, low) of the two comparisons of x: "not above the window" and "below it".

    The comparisons leave out the bits below `low` where the curve allows either answer within a band of 2^low
    ulp.
    """
    low = max(0, x.fraction_bits + math.floor(portable.log2(curve.outer - curve.bound)))
    bound, outer = (round(each * 2.0**x.fraction_bits) for each in (curve.bound, curve.outer))
    return (-outer, bound), low


def row(bits: Bits, first: int, second: int | None = None) -> Bits:
    """Return one row of bits, or the exclusive or of two rows."""
    words = bits.words[first] if second is None else bits.words[first] ^ bits.words[second]
    return Bits(words, bits.word_bits)


def total_of(*terms: tuple[int, Additive]) -> Additive:
    """Add shares, each times 1 or -1. All terms have one format, and the sign of the first term is 1."""
    total = terms[0][1].share
    for sign, term in terms[1:]:
        total = total + term.share if sign > 0 else total - term.share
    return Additive(total, terms[0][1].fxp)


def minus(x: Opened, constant: float) -> Opened:
    """Subtract a public value from an opened one."""
    if not constant:
        return x
    step = np.asarray(round(constant * 2.0**x.fxp.fraction_bits)).astype(x.fxp.dtype)
    return x._replace(c=x.c - step)


def plus(party: Party, x: Additive, constant: float) -> Additive:
    """Add a public value to shares of another one."""
    if party.role != "A" or not constant:
        return x
    step = np.asarray(round(constant * 2.0**x.fxp.fraction_bits)).astype(x.fxp.dtype)
    return Additive(x.share + step, x.fxp)


def _open_value(
    party: Party, x: Opened, curve: Curve, middle: int, function: Function | None
) -> Protocol[Opened]:
    """Compute the window's value and open it."""
    if function is None:
        value = yield from series(party.at("series"), x, curve, middle)
    else:
        value = yield from tabulated(party.at("table"), x, curve, function, middle)
    return (yield from open_masked(party.at("value"), value))


def clipped(party: Party, x: Rss, curve: Curve, out: Fxp, function: Function | None = None) -> Protocol[Rss]:
    """Evaluate `curve` at every element of x and return the result in format `out`.

    Inside the window the value comes from the series of `curve` or, if `function` is given, from a table of
    `function`.

    Range: |x| < `curve.room`, so that neither the comparisons wrap nor a cast of the upper tail. If x itself
    is that tail, `out` must hold x, and an upcast from ring 16 needs x < limit - 0.5. Error: `clipped_error`.

    Rounds: open x; compare, and open the value beside it (two rounds with a table); choose; reshare. That is
    4 in all, or 5 with an upcast in place of the reshare. Few elements of ring 16 are chosen from in the
    larger ring, which spares them the upcast. Each doubling of the ring adds one.

    Security: x, the value and the choosing bits are opened to A and B under full-width one-time masks.
    """
    middle = middle_bits(curve, x.fxp, out)
    offsets, low = _window(curve, x.fxp)
    own = from_rss(party, x)
    opened = yield from open_masked(party.at("operand"), own)
    bits, value = yield from parallel(
        signs(party.at("signs"), opened, offsets, low),
        _open_value(party, opened, curve, middle, function),
    )
    not_above, below = row(bits, 0), row(bits, 1)
    if curve.above is not None:
        upper, lower = yield from multiply_each(
            party.at("chosen"),
            (not_above, minus(value, curve.above)),
            (below, minus(value, curve.below)),
        )
        total = plus(party, total_of((1, upper), (-1, lower)), curve.above)
        return (yield from release(party.at("out"), total, out, curve.minimum))
    if _lifts(x.size, curve, own.fxp, out, party.worth):
        return (yield from _lifted(party, bits, value, opened, out))
    inside, kept = yield from multiply_each(party.at("chosen"), (row(bits, 0, 1), value), (not_above, opened))
    return (yield from joined(party, own, kept, inside, out, curve.minimum))


def _lifts(size: int, curve: Curve, x: Fxp, out: Fxp, worth: int) -> bool:
    """Return whether few elements are chosen from in the larger ring of `out`, which saves a round."""
    wider = x.ring_bits == NARROW < out.ring_bits and out.fraction_bits >= x.fraction_bits
    return curve.above is None and wider and size <= limit(tuning.LIFTED_ELEMENTS, worth)


def _lifted(party: Party, bits: Bits, value: Opened, x: Opened, out: Fxp) -> Protocol[Rss]:
    """Return the window's value where both bits differ, x above the window, and 0 below it."""
    not_above, ring = row(bits, 0), out.ring_bits
    above = Bits(~not_above.words if party.role == "A" else not_above.words, bits.word_bits)
    centre = 1 << (NARROW - 2)
    choices = (Choice(row(bits, 0, 1), value, centre), Choice(above, x, 0))  # x is positive above the window
    shares = yield from multiply_lifted(party.at("chosen"), choices, ring)
    total = total_of(*((1, each) for each in shares))
    raised = total.share << out.dtype.type(out.fraction_bits - total.fxp.fraction_bits)
    return (yield from to_rss(party.at("out"), Additive(raised, out)))


def joined(
    party: Party, own: Additive, kept: Additive, inside: Additive, out: Fxp, minimum: float
) -> Protocol[Rss]:
    """Return inside + x - kept: the window's value, which comes from ring 16, and x above the window.

    Range and error: as for `release`.
    """
    if own.fxp.ring_bits == NARROW:
        return (
            yield from release(party.at("out"), total_of((1, inside), (1, own), (-1, kept)), out, minimum)
        )
    bias = math.ceil(-minimum * 2.0**inside.fxp.fraction_bits) + 4
    wide = yield from lift_shares(party.at("upcast"), inside, own.fxp.ring_bits, bias)
    rise = own.fxp.fraction_bits - inside.fxp.fraction_bits
    raised = Additive(wide.share << own.fxp.dtype.type(rise), own.fxp)
    shared = yield from to_rss(party.at("out"), total_of((1, own), (-1, kept), (1, raised)))
    return (yield from convert(party.at("out/convert"), shared, out))


def clipped_variant(x: Spec, curve: Curve, out: Fxp, worth: int) -> str:
    """Name the ways in which few elements are compared and chosen."""
    assert x.fxp is not None
    bits, size = x.fxp.ring_bits - _window(curve, x.fxp)[1] - 1, elements(x.shape)
    lifts = _lifts(size, curve, x.fxp, out, worth)
    return listed(one_hot_digits.variant(size, bits, worth), "lifted choice" if lifts else "")


def clipped_error(x: Spec, curve: Curve, out: Fxp, function: Function | None = None) -> float:
    """Bound the error of `clipped`: that of the window's value or of the tails, plus the conversion."""
    assert x.fxp is not None
    fraction, middle = x.fxp.fraction_bits, middle_bits(curve, x.fxp, out)
    if function is None:
        inside = series_error(curve, fraction, middle)
    else:
        inside = tabulated_error(x.fxp, curve, middle)
    carried = fraction if curve.above is None else middle
    return max(inside, curve.tail_error) + (1.5 * out.ulp if out.fraction_bits < carried else 0.0)
