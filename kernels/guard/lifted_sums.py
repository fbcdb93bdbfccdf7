"""Sum the elements of a narrow ring in a wider one, at less than four bytes an element.

The sum of D's two components and the third one, which A and B hold, wraps or not. The highest bits of both
decide (`top_bits`). A dealt product of masks turns the shared bits into numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ditto_kernels.guard.random_sums import lifted
from ditto_kernels.guard.top_bits import cells_within, parities, top_bits
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, deal, exchange
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, signed
from ditto_kernels.values.replicated import Rss

_TOP = 4  # so many of the highest bits decide
_BYTE = np.dtype(np.uint8)


def lifted_sums(
    party: Party, ys: Sequence[Rss], rings: Sequence[int], factors: Sequence[Array], bounds: Sequence[float]
) -> Protocol[tuple[list[Array], Array]]:
    """Return 3-of-3 shares of weighted sums in larger rings, and of whether all elements lift.

    ys: values of one ring, of shape (batch, rows, summed). rings: the larger ring of each.
    factors: the public coefficients of each (`random_sums.weighted`).
    bounds: the magnitude in ulp of each, from which on its elements are refused.
    The second result is that of `top_bits.parities`: zero if every element lies within its bound.

    Range: magnitudes below the bound less one and a half sixteenths of the ring. From the bound on, every
    element makes the second result random. In between it is random by chance. Sums are right up to multiples
    of 2^8 of the ring.

    Cost: 18 bits online and 8 bits offline an element, in 2 rounds. Security: that of `top_bits`. A and B
    exchange bits under masks of which the other lacks one half, and D sees nothing. Source: our own.
    """
    bits, role = ys[0].fxp.ring_bits, party.role
    cells = [cells_within(bound, bits, _TOP) for bound in bounds]
    tops = yield from top_bits(party, ys, [each.bias for each in cells], _TOP)
    sizes = [math.prod(y.shape) for y in ys]
    counts = yield from _as_numbers(party.at("numbers"), tops.wraps(), sum(sizes))
    near = parities(party, tops.outside([each.count for each in cells], sizes))
    sums, start = [], 0
    for y, ring, some, cell, size in zip(ys, rings, factors, cells, sizes, strict=True):
        wide = signed(ring)
        if role == "D":
            known = lifted(_sum(y.mine, y.next, cell.bias), some, wide)
            sums.append(known - _total(some, wide) * wide.type(cell.bias))
            continue
        share = lifted(counts[start : start + size].reshape(y.shape), some, wide) << wide.type(bits)
        sums.append(lifted(y.next, some, wide) - share if role == "A" else -share)
        start += size
    return sums, near


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


@local_step(lambda mine, following, bias: mine)
def _sum(mine: Array, following: Array, bias: int) -> Array:
    return mine + following + np.asarray(bias).astype(mine.dtype)


@local_step(lambda factors, dtype: absent((factors.shape[-1],), dtype))
def _total(factors: Array, dtype: np.dtype[Any]) -> Array:
    return np.asarray(factors.sum(axis=0), dtype)


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
