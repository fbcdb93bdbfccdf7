"""Evaluate functions by polynomials inside a window, in Chebyshev's basis, and by tails outside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ditto_kernels.activation.clipped import joined, minus, plus, row, total_of
from ditto_kernels.activation.curve import NARROW
from ditto_kernels.activation.polynomial_tables import Pieces, Polynomial
from ditto_kernels.bits.bit_planes import Bits
from ditto_kernels.bits.select import multiply_bits
from ditto_kernels.bits.signs import signs
from ditto_kernels.products.multiply import multiply
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked
from ditto_kernels.sharing.release import release
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss

POWER = Fxp(32, 14)  # the format of T_n(t), where |t| <= 1
DOUBLED = Fxp(32, 13)  # reads the same ring elements as twice the value


def _middle(pieces: Pieces, x: Fxp, out: Fxp) -> Fxp:
    """Return the format of the polynomial's value: its sum in ring 32 leaves 16 bits to drop."""
    if pieces.saturates:
        return Fxp(NARROW, min(out.fraction_bits, pieces.narrow_bits))
    return Fxp(NARROW, x.fraction_bits if x.ring_bits == NARROW else min(x.fraction_bits, pieces.narrow_bits))


def _clipped_format(pieces: Pieces) -> Fxp:
    """Return the format of the clipped operand y. The same ring elements are read as t = y / scale."""
    return Fxp(POWER.ring_bits, POWER.fraction_bits - pieces.scale_bits)


def _coefficient_bits(middle: Fxp) -> int:
    return middle.fraction_bits + NARROW - POWER.fraction_bits


def _evaluate(party: Party, polynomial: Polynomial, values: Mapping[int, Rss], middle: Fxp) -> Additive:
    """Return 2-of-2 shares of the polynomial, truncated into ring 16. All of it is local.

    Error: 1 ulp, and the rounding of the coefficients.
    """
    bits = _coefficient_bits(middle)
    total = np.full(values[1].shape, 1 << (NARROW - 1), np.int32)
    for degree, coefficient in enumerate(polynomial):
        if degree and coefficient:
            share = from_rss(party, values[degree]).share
            total += share * np.int32(round(coefficient * 2.0**bits))
        elif party.role == "A":
            total += np.int32(round(coefficient * 2.0 ** (bits + POWER.fraction_bits)))
    return Additive((total >> NARROW).astype(np.int16), middle)


def _product(party: Party, left: int, right: int, values: Mapping[int, Rss]) -> Protocol[Rss]:
    """Return T_(m + n) = 2 T_m T_n - T_(m - n). It is bounded by 1, so that no rounding is amplified."""
    twice = yield from multiply(party, values[left].retagged(DOUBLED), values[right], POWER)
    if left != right:
        other = values[left - right]
        return Rss(twice.mine - other.mine, twice.next - other.next, POWER)
    one = POWER.dtype.type(1 << POWER.fraction_bits)  # T_0, which is subtracted from component 0
    return Rss(
        twice.mine - one if party.rank == 0 else twice.mine,
        twice.next - one if party.rank == 2 else twice.next,
        POWER,
    )


def _chebyshev(party: Party, y: Rss, pieces: Pieces) -> Protocol[dict[int, Rss]]:
    values = {1: y.retagged(POWER)}
    for level in pieces.levels:
        results = yield from parallel(*(_product(party.at(f"power{m + n}"), m, n, values) for m, n in level))
        values |= {m + n: result for (m, n), result in zip(level, results, strict=True)}
    return values


def piecewise(party: Party, x: Rss, out: Fxp, pieces: Pieces) -> Protocol[Rss]:
    """Clip x to the window and evaluate polynomials of it there. The tails hold outside.

    The clipped operand gives T_n in fxp32.14. Outside the window the function is 0 and x or, if it saturates,
    the value of the polynomial at the clipped operand.

    Range: |x| < `tail_room` for the largest bound, and |x| + bound < half of x's ring if the function
    saturates. Error: `piecewise_error`. Rounds from and to ring 16: 4, and 2 per level of products; 2 more
    with several pieces; up to 2 more where x is a tail.

    Security: x and the pieces' values are opened under full-width masks. Products leave a party as `multiply`
    says.
    """
    bounds, middle = pieces.bounds, _middle(pieces, x.fxp, out)
    own = from_rss(party, x)
    opened = yield from open_masked(party.at("operand"), own)
    offsets = tuple(-round(bound * 2.0**x.fxp.fraction_bits) for bound in bounds)
    bits = yield from signs(party.at("signs"), opened, offsets)
    last, inside = len(bounds) - 1, party.at("inside")
    if pieces.saturates:
        not_above, below = yield from parallel(
            multiply_bits(inside, row(bits, last), minus(opened, bounds[last])),
            multiply_bits(party.at("below"), row(bits, 0), minus(opened, bounds[0])),
        )
        clipped = plus(party, total_of((1, not_above), (-1, below)), bounds[last])
    else:
        clipped, kept = yield from parallel(
            multiply_bits(inside, row(bits, 0, last), opened),
            multiply_bits(party.at("above"), row(bits, last), opened),
        )
    y = yield from release(party.at("clip"), clipped, _clipped_format(pieces), -(2.0**pieces.scale_bits))
    values = yield from _chebyshev(party, y, pieces)
    if pieces.saturates:
        value = _evaluate(party, pieces.polynomials[0], values, middle)
        return (yield from release(party.at("out"), value, out, pieces.minimum))
    if len(pieces.polynomials) == 1:
        value = _evaluate(party, pieces.polynomials[0], values, middle)
    else:
        chosen = [
            _piece(
                party.at(f"piece{place}"), _evaluate(party, each, values, middle), row(bits, place + 1, place)
            )
            for place, each in enumerate(pieces.polynomials)
        ]
        value = total_of(*((1, each) for each in (yield from parallel(*chosen))))
    return (yield from joined(party, own, kept, value, out, pieces.minimum))


def _piece(party: Party, value: Additive, bit: Bits) -> Protocol[Additive]:
    opened = yield from open_masked(party, value)
    return (yield from multiply_bits(party, bit, opened))


def piecewise_error(x: Fxp, out: Fxp, pieces: Pieces) -> float:
    """Bound the error against the exact function: method, powers, coefficients and truncations."""
    middle = _middle(pieces, x, out)
    step = 1.5 * POWER.ulp
    wrong = {0: 0.0, 1: step if x.fraction_bits > _clipped_format(pieces).fraction_bits else 0.0}
    for level in pieces.levels:
        wrong |= {
            m + n: step + 2 * (wrong[m] + wrong[n] + wrong[m] * wrong[n]) + wrong[m - n] for m, n in level
        }
    coefficient = 2.0 ** -(_coefficient_bits(middle) + 1)
    rounding = max(
        sum(
            abs(value) * wrong[degree] + coefficient * (1 + wrong[degree])
            for degree, value in enumerate(each)
            if value
        )
        for each in pieces.polynomials
    )
    carried = middle.fraction_bits if pieces.saturates else x.fraction_bits
    total = pieces.error + rounding + middle.ulp
    return total + (1.5 * out.ulp if out.fraction_bits < carried else 0.0)
