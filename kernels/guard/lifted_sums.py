"""Sum the elements of a narrow ring in a wider one, at less than four bytes an element.

The sum of D's two components and the third one, which A and B hold, wraps or not. The highest bits of both
decide (`top_bits`). A dealt product of masks turns the shared bits into numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ditto_kernels.guard.random_sums import lifted
from ditto_kernels.guard.top_bits import cells_within, own_number, top_bits
from ditto_kernels.machine.backends import backend
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
    """Return 3-of-3 shares of weighted sums in larger rings, and bits of elements that do not lift.

    ys: values of one ring, of shape (batch, rows, summed). rings: the larger ring of each.
    factors: the public coefficients of each (`random_sums.weighted`).
    bounds: the magnitude in ulp of each, from which on its elements are refused.
    The second result has packed XOR shares at A and B of a bit for every element, which is 0 if it lies
    within its bound.

    Range: magnitudes below the bound less one and a half sixteenths of the ring. From the bound on, the bit
    of an element is 1. In between it is either. Sums are right up to multiples of 2^8 of the ring.

    Cost: 18 bits online and 8 bits offline an element, in 2 rounds. Security: that of `top_bits`. A and B
    exchange bits under masks of which the other lacks one half, and D sees nothing. Source: our own.
    """
    bits, role = ys[0].fxp.ring_bits, party.role
    cells = [cells_within(bound, bits, _TOP) for bound in bounds]
    numbers = [own_number(party, y, cell.bias) for y, cell in zip(ys, cells, strict=True)]
    tops = yield from top_bits(party, numbers, _TOP)
    outside, wraps = tops.read([each.count for each in cells])
    counts = yield from _as_numbers(party.at("numbers"), wraps)
    sums, start = [], 0
    for y, ring, some, cell, number in zip(ys, rings, factors, cells, numbers, strict=True):
        wide, shape = signed(ring), y.shape
        known = lifted(number.reshape(shape), some, wide) if role != "B" else None
        if role == "D":
            sums.append(known - _total(some, wide) * wide.type(cell.bias))
            continue
        share = lifted(counts[start : start + number.size].reshape(shape), some, wide) << wide.type(bits)
        sums.append(-share if known is None else known - share)
        start += -(-number.size // 8) * 8  # each value begins a byte
    return sums, outside


def _as_numbers(party: Party, words: Array) -> Protocol[Array]:
    """Return additive shares modulo 2^8 of XOR-shared bits: a + b - 2ab, with a dealt product of masks."""
    item = Deal("products", (8 * words.size,), _BYTE)
    if party.role == "D":
        first, second = party.draw_to_deal("masks", words.shape, _BYTE)
        yield from deal(party, [item], lambda: [_both(first, second)])
        yield Round()
        return absent(item.shape, _BYTE)
    mask = party.draw_with_dealer("masks", words.shape, _BYTE)
    (product,) = yield from deal(party, [item], list)
    mine = words ^ mask
    other = yield from exchange(party, "bits", mine)
    return _numbers(words, mask, mine, other, product, party.role == "A")


@local_step(lambda factors, dtype: absent((factors.shape[0], 1), dtype))
def _total(factors: Array, dtype: np.dtype[Any]) -> Array:
    return np.asarray(factors.sum(axis=1, keepdims=True), dtype)


@local_step(lambda first, second: absent((8 * first.size,), _BYTE))
def _both(first: Array, second: Array) -> Array:
    return np.unpackbits(np.bitwise_and(first, second, dtype=np.uint8), bitorder="little")


def _no_numbers(bits: Array, own: Array, mine: Array, other: Array, product: Array, leader: bool) -> Array:
    return absent(product.shape, _BYTE)


@local_step(_no_numbers)
def _numbers(bits: Array, own: Array, mine: Array, other: Array, product: Array, leader: bool) -> Array:
    return backend().cells.counts(bits, own, mine, other, product, leader)
