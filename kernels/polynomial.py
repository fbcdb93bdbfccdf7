"""GeLU by polynomials: an even one inside a window, PUMA's pieces, the quadratic of MPCFormer and Ditto."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from ditto_kernels.activation import joined, joined_cost, row, total_of
from ditto_kernels.additive import Additive, from_rss, open_masked, open_masked_cost
from ditto_kernels.boolean import Bits
from ditto_kernels.compare import signs, signs_cost
from ditto_kernels.cost import Cost, elements
from ditto_kernels.multiply import finish, finish_cost, multiply, multiply_cost
from ditto_kernels.party import Party, Protocol, parallel
from ditto_kernels.ring import Array, Fxp
from ditto_kernels.rss import Rss
from ditto_kernels.select import multiply_bits, multiply_bits_cost
from ditto_kernels.series import NARROW, release, release_cost
from ditto_kernels.truncate import convert, convert_cost

SCALE = 4  # polynomials are in t = y / 4, so that powers stay within 1
POWER = Fxp(32, 14)  # of t and its powers
CLIPPED = Fxp(32, 12)  # y: the same ring elements

Polynomial = Mapping[int, float]  # coefficient of each power of t

# x/2 + even(x) inside +-EVEN_BOUND: by a linear program as in docs/fit_series.py, error 0.0029.
EVEN_BOUND = 3.125
EVEN: Polynomial = {1: 0.5 * SCALE, 2: 6.207936, 4: -13.666643, 6: 19.221015, 8: -10.89007}
EVEN_ERROR = 0.0029

# PUMA (arXiv 2307.12533), section 4.1.
PUMA_BOUNDS = (-4.0, -1.95, 3.0)
PUMA_LOW: Polynomial = {
    0: -0.5054031199708174,
    1: -0.42226581151983866 * SCALE,
    2: -0.11807612951181953 * SCALE**2,
    3: -0.011034134030615728 * SCALE**3,
}
PUMA_HIGH: Polynomial = {
    0: 0.008526321541038084,
    1: 0.5 * SCALE,
    2: 0.3603292692789629 * SCALE**2,
    4: -0.037688200365904236 * SCALE**4,
    6: 0.0018067462606141187 * SCALE**6,
}
PUMA_ERROR = 0.0196

LEAST = -0.25  # below every result, errors included: upcasts rely on it


def _middle(x: Fxp) -> Fxp:
    """The polynomial's value: its sum in ring 32 leaves 16 bits to drop."""
    return Fxp(NARROW, x.fraction_bits if x.ring_bits == NARROW else min(x.fraction_bits, 12))


def _coefficient_bits(middle: Fxp) -> int:
    return middle.fraction_bits + NARROW - POWER.fraction_bits


def _evaluate(party: Party, polynomial: Polynomial, powers: Mapping[int, Rss], x: Fxp) -> Additive:
    """2-of-2 shares of the polynomial, truncated into ring 16, locally. Error: 1 ulp, coefficients."""
    middle = _middle(x)
    bits = _coefficient_bits(middle)
    shape = powers[1].shape
    if party.role == "D":
        return Additive(None, shape, middle)
    total = np.full(shape, 1 << (NARROW - 1), np.int32)
    for power, coefficient in polynomial.items():
        if power:
            share = from_rss(party, powers[power]).share
            total += np.asarray(share) * np.int32(round(coefficient * 2.0**bits))
        elif party.role == "A":
            total += np.int32(round(coefficient * 2.0 ** (bits + POWER.fraction_bits)))
    return Additive((total >> NARROW).astype(np.int16), shape, middle)


def _products(party: Party, pairs: Mapping[int, tuple[Rss, Rss]]) -> Protocol[dict[int, Rss]]:
    """Products of powers, by their exponent, in shared rounds."""
    results = yield from parallel(
        *(multiply(party.at(f"power{each}"), left, right, POWER) for each, (left, right) in pairs.items())
    )
    return dict(zip(pairs, results, strict=True))


def piecewise(party: Party, x: Rss, out: Fxp, approx: str) -> Protocol[Rss]:
    """GeLU by 'even' or 'puma': clip x to the window, powers of it in fxp32.14, 0 and x outside.

    Range: |x| + 4 < half of x's ring. Error: `piecewise_error`. Rounds from and to ring 16: 12
    with 'even', 14 with 'puma'.
    Security: openings under full-width masks; products leave as `multiply` says.
    """
    bounds = PUMA_BOUNDS if approx == "puma" else (-EVEN_BOUND, EVEN_BOUND)
    own = from_rss(party, x)
    opened = yield from open_masked(party.at("operand"), own)
    offsets = tuple(-round(bound * 2.0**x.fxp.fraction_bits) for bound in bounds)
    bits = yield from signs(party.at("signs"), opened, offsets)
    last = len(bounds) - 1
    clipped, kept = yield from parallel(
        multiply_bits(party.at("inside"), row(bits, 0, last), opened),
        multiply_bits(party.at("above"), row(bits, last), opened),
    )
    y = yield from release(party.at("clip"), clipped, CLIPPED, -float(SCALE))
    powers = {1: y.retagged(POWER)}
    powers |= yield from _products(party, {2: (powers[1], powers[1])})
    if approx == "even":
        powers |= yield from _products(party, {4: (powers[2], powers[2])})
        powers |= yield from _products(party, {6: (powers[4], powers[2]), 8: (powers[4], powers[4])})
        value = _evaluate(party, EVEN, powers, x.fxp)
    else:
        powers |= yield from _products(party, {3: (powers[2], powers[1]), 4: (powers[2], powers[2])})
        powers |= yield from _products(party, {6: (powers[3], powers[3])})
        pieces = []
        for name, polynomial, bit in (("low", PUMA_LOW, 1), ("high", PUMA_HIGH, 2)):
            pieces.append(_piece(party.at(name), polynomial, powers, x.fxp, row(bits, bit, bit - 1)))
        value = total_of(*((1, piece) for piece in (yield from parallel(*pieces))))
    return (yield from joined(party, own, kept, value, out, LEAST))


def _piece(
    party: Party, polynomial: Polynomial, powers: Mapping[int, Rss], x: Fxp, bit: Bits
) -> Protocol[Additive]:
    value = yield from open_masked(party, _evaluate(party, polynomial, powers, x))
    return (yield from multiply_bits(party, bit, value))


def piecewise_cost(shape: tuple[int, ...], x: Fxp, out: Fxp, approx: str) -> Cost:
    """Cost of `piecewise`."""
    size, ring, product = elements(shape), x.ring_bits, multiply_cost(shape, POWER, POWER, POWER)
    chosen = multiply_bits_cost(size, ring, ring)
    count = 3 if approx == "puma" else 2
    total = open_masked_cost(size, ring) + signs_cost(size, ring, count) + (chosen | chosen)
    total = total + release_cost(shape, x, CLIPPED) + product
    if approx == "even":
        total = total + product + (product | product)
    else:
        piece = open_masked_cost(size, NARROW) + multiply_bits_cost(size, NARROW, ring)
        total = total + (product | product) + product + (piece | piece)
    return total + joined_cost(shape, x, _middle(x), out)


def piecewise_error(x: Fxp, out: Fxp, approx: str) -> float:
    """Bound of the error against the exact function: method, powers, coefficients, and truncations."""
    middle = _middle(x)
    clip = 0.0 if x.fraction_bits <= CLIPPED.fraction_bits else 1.5 * POWER.ulp
    step = 1.5 * POWER.ulp
    power = {0: 0.0, 1: clip, 2: step + 2 * clip}
    power[3], power[4] = step + power[2] + clip, step + 2 * power[2]
    power[6] = step + (2 * power[3] if approx == "puma" else power[4] + power[2])
    power[8] = step + 2 * power[4]
    pieces = (PUMA_LOW, PUMA_HIGH) if approx == "puma" else (EVEN,)
    coefficient = 2.0 ** -(_coefficient_bits(middle) + 1)
    rounding = max(
        sum(abs(value) * power[exponent] + coefficient for exponent, value in each.items()) for each in pieces
    )
    method = PUMA_ERROR if approx == "puma" else EVEN_ERROR
    return method + rounding + middle.ulp + (1.5 * out.ulp if out.fraction_bits < x.fraction_bits else 0.0)


def _work(x: Fxp) -> Fxp:
    """The format in which a quadratic is computed: ring 32 only where squares up to 1000 fit it."""
    ring = 32 if x.ring_bits <= 32 and 2 * x.fraction_bits <= 20 else 64
    return Fxp(max(ring, x.ring_bits), x.fraction_bits)


def _quadratic_result(x: Fxp, out: Fxp) -> Fxp:
    """What the product becomes: `out` if a local shift leads there, else a format of its own ring."""
    ring, fraction = _work(x).ring_bits, 2 * x.fraction_bits + 3
    kept = min(out.fraction_bits, fraction)
    narrow = out.ring_bits <= ring - (fraction - kept) and kept == out.fraction_bits
    return out if narrow else Fxp(ring, kept)


@partial(jax.jit, static_argnames=("bits", "constant"))
def _square(mine: Array, following: Array, bits: int, constant: int) -> Array:
    """A 3-of-3 share of x^2 + 2^bits x + constant."""
    return mine * (mine + (following << 1)) + (mine << bits) + np.asarray(constant, mine.dtype)


def quadratic(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """x^2/8 + x/4 + 1/2: one product of x + 1 with itself, read with three fraction bits more.

    Range: (x + 1)^2 + 3 < 2^(k - 2 - 2f), with k = 32 up to 10 fraction bits (|x| < 30 at 10, 127 at 8) and
    64 above; an operand of a smaller ring is cast up first, which wants |x| < limit / 2. Error: 1.5 ulp of
    `out`. Rounds: 2 (truncation) or 1 (smaller ring), 2 more for the cast.
    """
    wide = yield from convert(party.at("widen"), x, _work(x.fxp))
    fraction = x.fxp.fraction_bits
    z = _square(wide.mine, wide.next, fraction + 1, 4 << (2 * fraction) if party.rank == 0 else 0)
    result = yield from finish(party.at("square"), z, 2 * fraction + 3, _quadratic_result(x.fxp, out))
    return (yield from convert(party.at("out"), result, out))


def quadratic_cost(shape: tuple[int, ...], x: Fxp, out: Fxp) -> Cost:
    """Cost of `quadratic`."""
    result, work = _quadratic_result(x, out), _work(x)
    product = finish_cost(
        elements(shape), work.ring_bits, 2 * x.fraction_bits + 3 - result.fraction_bits, result
    )
    return convert_cost(shape, x, work) + product + convert_cost(shape, result, out)
