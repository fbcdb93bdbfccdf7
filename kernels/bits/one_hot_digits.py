"""Bits that depend on few bits of a masked value, without a round: the dealer deals those bits one-hot.

Linear in dealt XOR shares, as a comparison inside a digit is (`boolean.compare_digits`), but by a digit of up
to eleven bits and by elements: for few elements its bytes cost less than the rounds of joining short digits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, unsigned

_WORD = 64
_MOST_BITS = 11
_PARITY = np.asarray([value.bit_count() & 1 for value in range(256)], np.uint8)


def _words(bits: int) -> int:
    return max(1, (1 << bits) // _WORD)


def serves(size: int, bits: int) -> bool:
    """Whether so many elements are few enough to deal so many bits of each one-hot."""
    return bits <= _MOST_BITS and size * _words(bits) * _WORD // 8 <= tuning.ONE_HOT_BYTES


def variant(size: int, bits: int) -> str:
    """The name of this way, where it serves."""
    return "one-hot digits" if serves(size, bits) else ""


def onehot_item(size: int, bits: int) -> Deal:
    """What is dealt for so many bits of each of `size` elements."""
    return Deal("onehot", (_words(bits), size), np.dtype(np.uint64), xor=True)


def onehot(index: Array, bits: int, first: Array | None = None) -> NDArray[np.uint64]:
    """Columns with bit `index` set, (words, n); `first`: bits for place 0, where nobody asks for it."""
    rows = np.zeros((_words(bits), len(index)), np.uint64)
    rows[index >> 6, np.arange(len(index))] = np.uint64(1) << (index & (_WORD - 1)).astype(np.uint64)
    if first is not None:
        rows[0] &= ~np.uint64(1)
        rows[0] |= first.astype(np.uint64)
    return rows


def packed_truth(truth: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Truth tables (..., c, 2^bits) of the dealt bits for each c as words of masks (words, ..., c)."""
    count = truth.shape[-1]
    padded = np.zeros((*truth.shape[:-1], max(_WORD, count)), bool)
    padded[..., :count] = truth
    words = np.packbits(padded, axis=-1, bitorder="little").view(np.uint64)
    return np.ascontiguousarray(np.moveaxis(words, -1, 0))


def parities(shares: Array, masks: Array) -> NDArray[np.uint8]:
    """Shares (..., n) of the functions whose truth tables are `masks` (words, ..., n), of n elements."""
    masks &= shares.reshape(len(shares), *(1,) * (masks.ndim - 2), -1)
    total = np.bitwise_xor.reduce(masks, axis=0)
    for step in (32, 16, 8):
        total ^= total >> np.uint64(step)
    return np.asarray(_PARITY[total.view(np.uint8)[..., ::8]])


@lru_cache(maxsize=_MOST_BITS)
def _above(bits: int) -> NDArray[np.uint64]:
    """For each c the mask of all r > c, and place 0: (words, 2^bits)."""
    values = np.arange(1 << bits)
    truth = values[None, :] > values[:, None]
    truth[:, 0] = True
    return packed_truth(truth)


def _parts(values: Array, low: int, bits: int) -> tuple[Array, Array]:
    """(bits low .. low + bits - 1 as an index, the bit above them)."""
    word = values.view(unsigned(8 * values.dtype.itemsize)) >> low
    return (word & ((1 << bits) - 1)).astype(np.intp), (word >> bits & 1).astype(np.uint8)


def dealt_sign(mask: Array, low: int, width: int) -> NDArray[np.uint64]:
    """What `sign_shares` needs of the mask r: its low bits one-hot, msb(r) in place 0."""
    index, top = _parts(mask, low, width - 1)
    return onehot(index, width - 1, top)


@local_step(lambda c, *_: absent(c.shape, np.dtype(np.uint8)))
def sign_shares(c: Array, shares: Array, low: int, width: int, leader: bool) -> NDArray[np.uint8]:
    """Shares of msb(c) ^ msb(r) ^ [c_low < r_low] for c of shape (offsets, n)."""
    index, top = _parts(c, low, width - 1)
    bits = parities(shares, np.take(_above(width - 1), index, axis=1))
    return bits ^ top if leader else bits
