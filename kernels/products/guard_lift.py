"""Sum the elements of a narrow ring in a wider one, at four bytes an element.

The sum of D's two components and the third one, which A and B hold, wraps or not. The highest bits of both
decide. D sends unary digits of its bits under a mask, A and B look up what they need at the bits that they
know, and a dealt product of masks turns shared bits into numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ditto_kernels.bits.bit_products import evaluate
from ditto_kernels.products.guard_sums import weighted
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, deal, exchange
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, signed, unsigned
from ditto_kernels.values.replicated import Rss

TOP = 5  # so many of the highest bits decide, in digits of two and of three bits
LOW = 3
ADMITTED = 1 - 3 / (1 << TOP)  # of the limit of a format: the range in which elements lift
LIMBS = 4  # numbers that tell whether all elements lift, each of 8 parities in the higher byte
_BYTE, _LIMB = np.dtype(np.uint8), np.dtype(np.int16)
_HIGH_PLANES, _LOW_PLANES = (1 << (TOP - LOW)) - 1, (1 << LOW) - 1
# The inputs are [h > t], [h = t], [l >= t], [l in the last two], [h = t - 1] and [l last but one, below 0].
_WRAPS, _NEAR = ((0,), (1, 2)), ((1, 3), (4, 5))


def lifted_sums(
    party: Party, ys: Sequence[Rss], rings: Sequence[int], factors: Sequence[Array]
) -> Protocol[tuple[list[Array], Array]]:
    """Return 3-of-3 shares of weighted sums in larger rings, and of whether all elements lift.

    ys: values of one ring, of shape (batch, rows, summed). rings: the larger ring of each.
    factors: the public coefficients of each (`guard_sums.weighted`).
    The second result has 4 numbers in ring 16. They are zero if every element lifts for certain, and random
    otherwise: with probability 2^-32 all are below 2^8 in magnitude.

    Range: magnitudes below 29/32 of the format's limit lift. From 31/32 on, every element makes the second
    result random, and may be shifted by its ring. In between it is random by chance. Sums are right up to
    multiples of 2^8 of the ring.

    Cost: 22 bits online and 11 bits offline an element, in 3 rounds. Security: the digits leave D under a
    stream that D and B have in common. A and B exchange bits under masks of which the other lacks one half,
    and D sees nothing. Source: our own.
    """
    bits = ys[0].fxp.ring_bits
    bias = ((1 << TOP) - 1) << (bits - TOP - 1)
    leader, role = party.role == "A", party.role
    component: Callable[[Rss], Array] = {
        "D": lambda y: _biased(y.mine, y.next, bias),
        "A": lambda y: y.next,
        "B": lambda y: y.mine,
    }[role]
    parts = [component(y) for y in ys]
    known = np.concatenate([each.reshape(-1) for each in parts])
    size, planes = known.shape[0], _HIGH_PLANES + _LOW_PLANES
    words = -(-size // 8)
    if role == "A":
        (table,) = yield Round((), (party.expect(party.dealer, "digits", (planes, words), _BYTE),))
    else:
        table = party.draw(party.dealer, "digits", (planes, words), _BYTE)
        yield Round((party.send(party.a, "digits", _digits(known) ^ table),) if role == "D" else ())
    found = absent((6, words), _BYTE) if role == "D" else _look_up(table, known, leader)
    wraps, near = yield from evaluate(party.at("joined"), [*found], (_WRAPS, _NEAR))
    counts = yield from _as_numbers(party.at("numbers"), wraps, size)
    parities = np.zeros(LIMBS, _LIMB)
    if role != "D":
        parities = _wide(subset_parities(party, "subsets", near, LIMBS), _LIMB) << _LIMB.type(8)
    sums, start = [], 0
    for part, ring, some in zip(parts, rings, factors, strict=True):
        wide, count = signed(ring), math.prod(part.shape)
        if role == "D":
            sums.append(weighted(_unsigned(part, wide) - wide.type(bias), some))
            continue
        wrapped = _wide(counts[start : start + count].reshape(part.shape), wide)
        share = weighted(wrapped, some) << wide.type(bits)
        sums.append(weighted(_unsigned(part, wide), some) - share if leader else -share)
        start += count
    return sums, parities if role != "B" else -parities


def _as_numbers(party: Party, words: Array, size: int) -> Protocol[Array]:
    """Return additive shares modulo 2^8 of XOR-shared bits: a + b - 2ab, with a dealt product of masks."""
    item = Deal("products", (size,), _BYTE)
    if party.role == "D":
        first, second = party.draw_to_deal("masks", words.shape, _BYTE)
        yield from deal(party, [item], lambda: [_both(first, second, size)])
        yield Round()
        return absent((size,), _BYTE)
    mask = party.draw_with_dealer("masks", words.shape, _BYTE)
    (product,) = yield from deal(party, [item], list)
    mine = words ^ mask
    other = yield from exchange(party, "bits", mine)
    pair = (mine, other) if party.role == "A" else (other, mine)
    return _numbers(words, mask, *pair, product, party.role == "A")


def subset_parities(party: Party, name: str, words: Array, count: int) -> Array:
    """Return A's or B's XOR shares of the parities of subsets of bits: `count` bytes of them.

    A and B draw the subsets from a stream that they have in common, each a window of it (Toeplitz hashing).
    If no bit is set, all parities are even, and otherwise they are uniform, whichever bits are set.
    """
    length = words.size + 8 * count - 1
    return _parities(words, party.draw(party.dealer + 2, name, (length,), words.dtype), count)


@local_step(lambda words, stream, count: absent((count,), _BYTE))
def _parities(words: Array, stream: Array, count: int) -> Array:
    chosen = np.bitwise_xor.reduce(words & sliding_window_view(stream, words.size), axis=1)
    shift = 4 * words.dtype.itemsize
    while shift:
        chosen ^= chosen >> chosen.dtype.type(shift)
        shift //= 2
    return np.packbits((chosen & chosen.dtype.type(1)).astype(bool))


@local_step(lambda mine, following, bias: mine)
def _biased(mine: Array, following: Array, bias: int) -> Array:
    return mine + following + mine.dtype.type(bias)


@local_step(lambda value, dtype: absent(value.shape, dtype))
def _unsigned(value: Array, dtype: np.dtype[Any]) -> Array:
    """Return ring elements as unsigned numbers in a larger ring."""
    return value.view(unsigned(8 * value.dtype.itemsize)).astype(dtype)


@local_step(lambda value, dtype: absent(value.shape, dtype))
def _wide(value: Array, dtype: np.dtype[Any]) -> Array:
    return value.astype(dtype)


def _top(value: Array) -> Array:
    """Return the highest bits of every element."""
    bits = 8 * value.dtype.itemsize
    word = np.ascontiguousarray(value).view(unsigned(bits)).reshape(-1)
    return (word >> word.dtype.type(bits - TOP)).astype(np.uint8)


@local_step(lambda value: absent((_HIGH_PLANES + _LOW_PLANES, -(-value.size // 8)), _BYTE))
def _digits(value: Array) -> Array:
    """Return both digits of the highest bits in unary: planes of [digit >= 1], [digit >= 2] and so on."""
    top = _top(value)
    high, low = top >> np.uint8(LOW), top & np.uint8(_LOW_PLANES)
    return np.stack(
        [np.packbits(high > each) for each in range(_HIGH_PLANES)]
        + [np.packbits(low > each) for each in range(_LOW_PLANES)]
    )


@local_step(lambda table, value, leader: absent((6, table.shape[1]), _BYTE))
def _look_up(table: Array, value: Array, leader: bool) -> Array:
    """Return XOR shares of what `_WRAPS` and `_NEAR` read.

    The sum of D's highest bits and of these reaches 31 where D's are at least t = 31 - these. It is near the
    end, which is 30 or 31 modulo 32, where D's are t or t - 1.
    """
    target = np.uint8((1 << TOP) - 1) - _top(value)
    high, low = target >> np.uint8(LOW), target & np.uint8(_LOW_PLANES)
    highs, lows = table[:_HIGH_PLANES], table[_HIGH_PLANES:]
    at_high = [np.packbits(high == each) for each in range(_HIGH_PLANES + 1)]
    at_low = [np.packbits(low == each) for each in range(_LOW_PLANES + 1)]
    nowhere = np.zeros(table.shape[1], np.uint8)

    def chosen(planes: Array, at: Sequence[Array]) -> Array:
        return np.bitwise_xor.reduce([plane & where for plane, where in zip(planes, at, strict=True)])

    def always(where: Array) -> Array:  # digits are at least 0, which A says alone
        return where if leader else nowhere

    above, from_here = chosen(highs, at_high[:-1]), chosen(highs, at_high[1:])
    here = above ^ from_here ^ always(at_high[0])
    before = chosen(highs, [*at_high[2:], at_high[0]]) ^ always(at_high[1]) ^ from_here
    reached = chosen(lows, at_low[1:]) ^ always(at_low[0])
    near = chosen(lows, at_low[:-1]) ^ chosen(lows, [*at_low[2:], nowhere]) ^ always(at_low[0] | at_low[1])
    return np.stack([above, here, reached, near, before, lows[-1] & at_low[0]])


@local_step(lambda first, second, count: absent((count,), _BYTE))
def _both(first: Array, second: Array, count: int) -> Array:
    return np.unpackbits(np.bitwise_and(first, second, dtype=np.uint8), count=count)


def _no_numbers(bits: Array, mask: Array, first: Array, second: Array, product: Array, leader: bool) -> Array:
    return absent(product.shape, _BYTE)


@local_step(_no_numbers)
def _numbers(bits: Array, mask: Array, first: Array, second: Array, product: Array, leader: bool) -> Array:
    """Return additive shares modulo 2^8 of the XOR of both parties' bits: a + b - 2ab.

    first, second: A's and B's bits under their masks p and q. product: shares of pq.
    """
    one, two, bit, own = (np.unpackbits(each, count=len(product)) for each in (first, second, bits, mask))
    sign_one, sign_two = 1 - 2 * one, 1 - 2 * two
    apart = one * two + sign_one * two * own if leader else one * sign_two * own
    result: Array = bit - 2 * (apart + sign_one * sign_two * product)
    return result
