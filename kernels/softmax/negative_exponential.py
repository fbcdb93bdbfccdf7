"""Exponentials e^(-s T) for T >= 0 come from multiplicative masks instead of a polynomial.

A and B open c = T + r. Then e^(-s T) = e^(-s c) e^(s r): the first factor is public to A and B, and the
dealer deals the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits import one_hot_digits
from ditto_kernels.bits.bit_planes import (
    DIGIT_BITS,
    FAN_IN,
    Bits,
    compare_digits,
    digits_of,
    pack,
    to_planes,
    unary,
    unary_planes,
    unpack,
    word_count,
)
from ditto_kernels.bits.bit_products import Outputs, evaluate
from ditto_kernels.bits.one_hot_digits import onehot, onehot_item, packed_truth, parities, serves
from ditto_kernels.bits.select import open_bits
from ditto_kernels.machine.fused import fused
from ditto_kernels.machine.words import entries
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.sharing.additive import Additive, Opened, open_masked
from ditto_kernels.sharing.casts import narrow
from ditto_kernels.values import portable
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, Rows, unsigned

_LOG2_E = math.log2(math.e)
_WIDE = 64  # the ring of the dealt factors
_ONE_ROUND = 5  # From this many high digits on, one more round joins them in groups first.


@dataclass(frozen=True)
class Window:
    """A window is the range of T for which e^(gain - s T) is represented.

    The low `bits` of T count, and beyond them the result is 0 within `factor_error`. In the last sixteenth of
    the window a value may be 0 too: a wrap of the low bits shows in their highest digit unless T lies there.
    """

    bits: int
    rate: float  # s in base 2 per ulp of T
    gain: float  # in base 2
    dealt_bits: int  # fraction bits of the dealt factors 2^(rate r)
    public_bits: int  # fraction bits of the public factor 2^(gain - rate c)
    out: Fxp
    compared: int  # the low bits of T that tell whether it lies in the window; those above are known to be 0

    @property
    def length(self) -> float:
        """The length of the window in units of base 2."""
        return self.rate * 2.0**self.bits

    @property
    def digit(self) -> int:
        """The place where the highest digit of the low bits starts, the only digit that is compared."""
        return max(0, self.bits - DIGIT_BITS)

    @property
    def reach(self) -> float:
        """The exponent, in units of base 2, up to which values certainly do not vanish."""
        return self.rate * (2.0**self.bits - (2.0**self.digit if self.digit else 0.0))

    @property
    def product(self) -> Fxp:
        """The format of the product of both factors."""
        return Fxp(_WIDE, self.dealt_bits + self.public_bits)

    @property
    def factor_error(self) -> float:
        """The error of a product within the window, by the rounding of its factors."""
        top = 2.0**self.gain
        return top * 2.0 ** -(self.dealt_bits + 1) + 2.0 ** (self.length - self.public_bits - 1)

    @property
    def error(self) -> float:
        """The error of a value within the window."""
        return self.factor_error + self.out.ulp

    @property
    def below_zero(self) -> int:
        """The number of ulp of `out` by which rounding may bring a value below zero."""
        return math.ceil(self.error / self.out.ulp)


def fit_window(
    fxp: Fxp,
    scale: float,
    out: Fxp,
    gain: float = 0.0,
    span: float = math.inf,
    terms: int = 1,
    farthest: float = math.inf,
) -> Window:
    """Return the window with the least error for e^(gain - scale * T).

    T >= 0 is in format `fxp`, and 0 <= scale * T <= span. A long window leaves fewer bits for the factors,
    and a short one drops values below 2^-length. Up to `terms` such values may be summed. Where T is known
    not to exceed `farthest`, in ulp, fewer of its bits are compared. Raises ValueError if no window serves.
    """
    rate, top = scale * fxp.ulp * _LOG2_E, gain * _LOG2_E
    budget = min(62, _WIDE - out.ring_bits + out.fraction_bits + math.floor(top))
    reach = min(span, scale * fxp.limit) * _LOG2_E
    best: tuple[float, Window] | None = None
    for bits in range(2, fxp.ring_bits):
        length = rate * 2.0**bits
        precision = round((budget - length) / 2)
        if precision < 4:
            break
        public_bits = budget - precision - math.ceil(top)
        beyond = min(farthest + 2.0 ** max(0, bits - DIGIT_BITS) + 1, 2.0**fxp.ring_bits)
        compared = min(fxp.ring_bits, max(bits + 1, math.ceil(portable.log2(beyond))))
        candidate = Window(bits, rate, top, precision, public_bits, out, compared)
        lost = 0.0 if candidate.reach > reach * (1 + 1e-9) else terms * 2.0**-candidate.reach
        error = lost + 2.0**-precision
        drop = candidate.product.fraction_bits - out.fraction_bits
        if 0 <= drop <= _WIDE - out.ring_bits and (best is None or error < best[0]):
            best = (error, candidate)
    if best is None:
        raise ValueError(
            f"exp of {fxp} at scale {scale:g} into {out} finds no window: take more fraction bits"
        )
    return best[1]


def _steps(high: int) -> list[Outputs]:
    """Return the outputs of every round from digits to the bits a0, a1.

    The inputs of a round are [c < r] of the low bits' highest digit, then [c == r] and [c - 1 == r] of the
    high digits.
    """
    steps: list[Outputs] = []
    while high >= _ONE_ROUND:
        groups = [range(start, min(start + FAN_IN, high)) for start in range(0, high, FAN_IN)]
        joined = [(tuple(base + place for place in group),) for base in (1, 1 + high) for group in groups]
        steps.append((((0,),), *joined))
        high = len(groups)
    same, following = tuple(range(1, 1 + high)), tuple(range(1 + high, 1 + 2 * high))
    steps.append(((same, (0, *same)), ((0, *following),)))
    return steps


def _digits(window: Window) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Return the digit that shows a wrap of the low bits, and the digits above the window."""
    return digits_of(window.digit, window.bits), digits_of(window.bits, window.compared)


def _range_bits(party: Party, x: Opened, window: Window) -> Protocol[Bits]:
    """Return shares of a0 = [T in window, c_low >= r_low] and a1 = [T in window, c_low < r_low].

    It is enough to compare the highest digit of c_low and r_low. If the low bits wrap, c_low = r_low + T -
    2^bits is less than r_low by at least one unit of that digit, unless T lies within one unit of the
    window's end. Then both bits may be 0. If the low bits do not wrap, no digit is less.
    """
    ring = x.fxp.ring_bits
    low, high = _digits(window)
    if serves(x.size, ring - window.digit, party.worth):
        return (yield from _few_range_bits(party, x, window))
    split, words, dtype = unary_planes(low), word_count(x.size, ring), unsigned(ring)
    items = [Deal("digits", (split + unary_planes(high), words), dtype, xor=True)]
    (shares,) = yield from deal(
        party, items, lambda: [unary(to_planes(x.mask.reshape(-1), ring), (*low, *high))]
    )
    leader, c = party.role == "A", x.c.reshape(-1)
    planes = to_planes(c, ring)
    before = to_planes(c - np.asarray(1 << window.bits).astype(c.dtype), ring)
    less = compare_digits(planes, shares[:split], low, leader)[0]
    same = compare_digits(planes, shares[split:], high, leader)[1]
    following = compare_digits(before, shares[split:], high, leader)[1]
    inputs: Rows = [*less, *same, *following]
    for level, outputs in enumerate(_steps(len(high))):
        inputs = yield from evaluate(party.at(f"level{level}"), inputs, outputs)
    return Bits(np.stack([*inputs]), ring)


def range_variant(plan: Window, ring: int, count: int, worth: int) -> str:
    """Name the way in which range bits are computed, if there are few elements."""
    return one_hot_digits.variant(count, ring - plan.digit, worth)


@lru_cache(maxsize=8)
def _truth(high: int, digit: int) -> NDArray[np.uint64]:
    """Return masks of r for a0 and a1, for each c, in shape (words, 2, c).

    Both r and c have `digit` low bits and `high` more.
    """
    values = np.arange(1 << (high + digit))
    above, inside = np.divmod(values, 1 << digit)
    less = inside[:, None] < inside
    before = ((above - 1) % (1 << high))[:, None] == above
    return packed_truth(np.stack([(above[:, None] == above) & ~less, before & less]))


def _few_range_bits(party: Party, x: Opened, window: Window) -> Protocol[Bits]:
    """Compute `_range_bits` without a round: all bits that it reads form one digit."""
    bits = x.fxp.ring_bits - window.digit
    item = onehot_item(x.size, bits)
    (shares,) = yield from deal(party, [item], lambda: [onehot(_index(x.mask, window), bits)])
    return Bits(pack(_range_shares(x.c, shares, window), x.fxp.ring_bits), x.fxp.ring_bits)


def _index(values: Array, window: Window) -> Array:
    """Return the bits of each value from the window's highest digit upwards."""
    word = values.reshape(-1).view(unsigned(8 * values.dtype.itemsize))
    return (word >> window.digit).astype(np.intp)


@local_step(lambda c, *_: absent((2, c.size), np.dtype(np.uint8)))
def _range_shares(c: Array, shares: Array, window: Window) -> Array:
    ring = 8 * c.dtype.itemsize
    truth = _truth(ring - window.bits, window.bits - window.digit)
    return parities(shares, np.take(truth, _index(c, window), axis=2))


@lru_cache(maxsize=32)
def _table(window: Window, sign: float, offset: float, bits: int) -> NDArray[np.int64]:
    """Return `_factors` of every position."""
    exponents = sign * window.rate * np.arange(1 << window.bits) + (offset + bits)
    return np.rint(np.exp2(exponents)).astype(np.int64)


@fused(tables=("table",))
def _found(table: Array, places: Array) -> Array:
    return entries(table, places)


@local_step(lambda positions, *_: absent(positions.shape, np.dtype(np.int64)))
def _factors(positions: Array, window: Window, sign: float, offset: float, bits: int) -> Array:
    """Return round(2^(bits + offset + sign * rate * position)) as int64.

    The position consists of an element's low bits.
    """
    word = positions.view(unsigned(8 * positions.dtype.itemsize))
    low = word & word.dtype.type((1 << window.bits) - 1)
    if window.bits <= tuning.FACTOR_TABLE_BITS:
        made: Array = _found(_table(window, sign, offset, bits), low)
        return made
    return np.rint(np.exp2(sign * window.rate * low.astype(np.float64) + (offset + bits))).astype(np.int64)


def _dealer_terms(mask: Array, sigma: Array, window: Window, word_bits: int) -> Sequence[Array]:
    """Return the two numbers of which `chosen_product` makes the result.

    Let P be the factor of the mask and W = 2^-length P the one for wrapped low bits. By the masks (s0, s1) of
    the range bits, the numbers are (0, P) for (0, 0), (P, W) for (1, 0), (W, P) for (0, 1), and (-P, 0) for
    (1, 1).
    """
    flat = mask.reshape(-1)
    plain = _factors(flat, window, 1.0, 0.0, window.dealt_bits)
    wrapped = _factors(flat, window, 1.0, -window.length, window.dealt_bits)
    terms: Sequence[Array] = _selected(plain, wrapped, *unpack(sigma, mask.size, word_bits))
    return terms


@fused()
def _selected(plain: Array, wrapped: Array, inside: Array, wraps: Array) -> tuple[Array, Array]:
    one, other = inside.astype(np.int64), wraps.astype(np.int64)
    both = one * other
    first = plain * (one - both - both) + wrapped * (other - both)
    return first, wrapped * (one - both) + plain - plain * one


@fused(rows=("bits",))
def chosen_product(
    bits: Sequence[Array], first: Array, second: Array, factor: Array, wrapped: Array
) -> Array:
    """Return a share of the result from the opened range bits and shares of the two dealt numbers.

    Let f be the public factor and g = 2^-length f. The multipliers of both numbers are (f, 0), (-g, f),
    (-f, g) and (0, f) for the opened bits (0, 0), (1, 0), (0, 1) and (1, 1). So the result is f P if the
    opened bits differ from their masks in the first one, and g P or f W if they differ in the second one. If
    they are equal, it is 0 or f W - g P, which is 0 up to rounding. They never differ in both.
    """
    one, other = bits[0].astype(np.int64), bits[1].astype(np.int64)
    both, neither = one * other, (1 - one) * (1 - other)
    of_first = (neither + both - other) * factor - (one - both) * wrapped
    of_second = one * factor + (other - both) * wrapped
    return first * of_first + second * of_second


def exp_products(party: Party, x: Additive, window: Window) -> Protocol[Additive]:
    """Compute e^(gain - s T) for T >= 0 in ring 64, with the fraction bits of both factors.

    The result is 0 beyond the window, up to `Window.factor_error`. Range, error, cost and security: see
    `exp_negative`, which rounds these products.
    """
    opened = yield from open_masked(party.at("open"), x)
    inside = yield from _range_bits(party.at("range"), opened, window)
    alpha, _, shares = yield from open_bits(
        party.at("bits"),
        inside,
        [Deal(name, (x.size,), np.dtype(np.int64)) for name in ("first", "second")],
        lambda sigma: _dealer_terms(opened.mask, sigma, window, inside.word_bits),
    )
    c = opened.c.reshape(-1)
    factor = _factors(c, window, -1.0, window.gain, window.public_bits)
    wrapped = _factors(c, window, -1.0, window.gain - window.length, window.public_bits)
    product = chosen_product(unpack(alpha, x.size, inside.word_bits), *shares, factor, wrapped)
    return Additive(product.reshape(x.shape), window.product)


def rounded(party: Party, x: Additive, out: Fxp) -> Additive:
    """Bring x into a smaller ring by two local shifts. Error: less than 1 ulp.

    A rounds up and B rounds down, so that zero stays zero.
    """
    drop = x.fxp.fraction_bits - out.fraction_bits
    bias = (1 << drop) - 1 if party.role == "A" else 0
    return Additive(narrow(x.share, drop, out.ring_bits, bias), out)


def exp_negative(party: Party, x: Additive, window: Window) -> Protocol[Additive]:
    """Compute e^(gain - s T) for T >= 0, as additive shares in the format of the window.

    Range: 0 <= T < 2^compared - 2^digit ulp. A T up to 2^digit ulp below 0 gives the right value or 0. A T
    beyond the window gives 0. Error: `Window.error`, also there. Cost at ring 16: 42 bits online and 152 bits
    offline per element, in 3 rounds (3 or 4 for ring 32, and 5 for ring 64).

    Security: c is masked over the full ring, and the range bits are masked once each. Factors are dealt as
    additive shares in Z_2^64.

    Source: own.
    """
    product = yield from exp_products(party, x, window)
    return rounded(party, product, window.out)
