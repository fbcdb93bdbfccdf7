"""Tell in which cells of a ring shared numbers lie: by code made for the processor, or by numpy.

Cells are told by the highest bits of two numbers, of which one is shared in unary. Packed bits lie in bytes
from the lowest bit on, and what fills the last byte is zero.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[Any]  # one unsigned type, in one dimension
TOP_BITS = {1: 3, 2: 4}  # by the bytes of a word: so many highest bits it holds in unary


class Cells(Protocol):
    """A place where these steps are computed. All of them return the same bits."""

    def unary(self, numbers: Numbers, masks: Numbers) -> None:
        """Turn masks into the highest bits of numbers in unary, XOR masks.

        masks: words of 8 bits for three highest bits, or of 16 bits for four. Bit v of a word tells whether
        the highest bits are v at least.
        """

    def read(self, words: Numbers, numbers: Numbers, cells: int, leader: bool) -> tuple[Bytes, Bytes]:
        """Return packed shares of two bits of each sum of two numbers.

        words: XOR shares of one number's highest bits in unary. numbers: the other number, which is known.
        cells: so many cells from 0 on are admitted. leader: whether this party adds what is known.

        The first bit tells that the sum of both highest bits, which is the cell or the one before it, is not
        one of the first cells - 1. The second tells whether the sum wraps, unless it lies in the last cell.
        """

    def counts(
        self, bits: Bytes, own: Bytes, mine: Bytes, other: Bytes, products: Bytes, leader: bool
    ) -> Bytes:
        """Return additive shares modulo 2^8 of shared bits, one for each product.

        bits, own: this party's XOR shares, and the mask under which it sent them. mine, other: the masked
        shares of this party and of the other one. products: additive shares of products of both masks.
        """

    def parities(self, bits: Bytes, stream: Bytes, windows: int) -> Bytes:
        """Return for each window of a stream the XOR of the bytes of bits that it chooses."""


class NumpyCells:
    """The steps by numpy, with a pass over memory for each operation."""

    def unary(self, numbers: Numbers, masks: Numbers) -> None:
        top, word = _top(masks), masks.dtype.type
        highest = _highest(numbers, top, masks.dtype)
        masks ^= word(-1 & (1 << (1 << top)) - 1) >> (word((1 << top) - 1) - highest)

    def read(self, words: Numbers, numbers: Numbers, cells: int, leader: bool) -> tuple[Bytes, Bytes]:
        top, word = _top(words), words.dtype.type
        known, last = _highest(numbers, top, words.dtype), word((1 << top) - 1)
        first, after = -known & last, (word(cells - 1) - known) & last
        inside = (words >> first) ^ (words >> after)
        if leader:
            inside ^= first <= after
        return _packed(inside), _packed(words >> (last - known))

    def counts(
        self, bits: Bytes, own: Bytes, mine: Bytes, other: Bytes, products: Bytes, leader: bool
    ) -> Bytes:
        bit, mask, one, two = (_unpacked(each, len(products)) for each in (bits, own, mine, other))
        sign = 1 - 2 * one
        total = sign * two * mask + sign * (1 - 2 * two) * products
        if leader:
            total += one * two
        return np.asarray(bit - 2 * total)

    def parities(self, bits: Bytes, stream: Bytes, windows: int) -> Bytes:
        chosen = sliding_window_view(stream, bits.size)[:windows]
        return np.asarray(np.bitwise_xor.reduce(bits & chosen, axis=1))


def _top(words: Numbers) -> int:
    return TOP_BITS[words.dtype.itemsize]


def _highest(numbers: Numbers, top: int, dtype: np.dtype[Any]) -> Numbers:
    return (numbers >> numbers.dtype.type(8 * numbers.dtype.itemsize - top)).astype(dtype)


def _packed(words: Numbers) -> Bytes:
    return np.packbits((words & words.dtype.type(1)).astype(bool), bitorder="little")


def _unpacked(bits: Bytes, count: int) -> Bytes:
    return np.unpackbits(bits, count=count, bitorder="little")
