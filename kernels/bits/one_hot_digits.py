"""Bits that depend on few bits of a masked value take no round: the dealer deals those one-hot.

They are linear in dealt XOR shares, as a comparison inside a digit is (`bit_planes.compare_digits`). The
digit has up to eleven bits here, and the layout is by elements. For few elements its bytes cost less than the
rounds that join short digits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, unsigned

_WORD = 64
_MOST_BITS = 11
_PARITY = np.asarray([value.bit_count() & 1 for value in range(256)], np.uint8)


def _words(bits: int) -> int:
    return max(1, (1 << bits) // _WORD)


def serves(size: int, bits: int, worth: int) -> bool:
    """Return whether there are few enough elements to deal so many bits of each one-hot.

    `worth` says how many bytes a saved round is worth.
    """
    return bits <= _MOST_BITS and size * _words(bits) * _WORD // 8 <= limit(tuning.ONE_HOT_BYTES, worth)


def variant(size: int, bits: int, worth: int) -> str:
    """Return the name of this form where it serves, else ''."""
    return "one-hot digits" if serves(size, bits, worth) else ""


def onehot_item(size: int, bits: int) -> Deal:
    """Return the item to deal for so many bits of each of `size` elements."""
    return Deal("onehot", (_words(bits), size), np.dtype(np.uint64), xor=True)


def onehot(index: Array, bits: int, first: Array | None = None) -> NDArray[np.uint64]:
    """Return columns with bit `index` set, in shape (words, n).

    `first` has bits for place 0, for which no comparison asks.
    """
    rows = np.zeros((_words(bits), len(index)), np.uint64)
    rows[index >> 6, np.arange(len(index))] = np.uint64(1) << (index & (_WORD - 1)).astype(np.uint64)
    if first is not None:
        rows[0] &= ~np.uint64(1)
        rows[0] |= first.astype(np.uint64)
    return rows


def packed_truth(truth: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack truth tables (..., c, 2^bits) of the dealt bits for each c as masks (words, ..., c)."""
    count = truth.shape[-1]
    padded = np.zeros((*truth.shape[:-1], max(_WORD, count)), bool)
    padded[..., :count] = truth
    words = np.packbits(padded, axis=-1, bitorder="little").view(np.uint64)
    return np.ascontiguousarray(np.moveaxis(words, -1, 0))


def parities(shares: Array, masks: Array) -> NDArray[np.uint8]:
    """Return shares (..., n) of the functions with truth tables `masks` (words, ..., n), of n elements."""
    masks &= shares.reshape(len(shares), *(1,) * (masks.ndim - 2), -1)
    total = np.bitwise_xor.reduce(masks, axis=0)
    for step in (32, 16, 8):
        total ^= total >> np.uint64(step)
    return np.asarray(_PARITY[total.view(np.uint8)[..., ::8]])


@lru_cache(maxsize=_MOST_BITS)
def _above(bits: int) -> NDArray[np.uint64]:
    """Return for each c the mask of all r > c, and of place 0: (words, 2^bits)."""
    values = np.arange(1 << bits)
    truth = values[None, :] > values[:, None]
    truth[:, 0] = True
    return packed_truth(truth)


def _parts(values: Array, low: int, bits: int) -> tuple[Array, Array]:
    """Return (bits low .. low + bits - 1 as an index, the bit above them)."""
    word = values.view(unsigned(8 * values.dtype.itemsize)) >> low
    return (word & ((1 << bits) - 1)).astype(np.intp), (word >> bits & 1).astype(np.uint8)


def dealt_sign(mask: Array, low: int, width: int) -> NDArray[np.uint64]:
    """Return the dealer's data for `sign_shares`: low bits of the mask r one-hot, and msb(r) in place 0."""
    index, top = _parts(mask, low, width - 1)
    return onehot(index, width - 1, top)


@local_step(lambda c, *_: absent(c.shape, np.dtype(np.uint8)))
def sign_shares(c: Array, shares: Array, low: int, width: int, leader: bool) -> NDArray[np.uint8]:
    """Return shares of msb(c) ^ msb(r) ^ [c_low < r_low] for c of shape (offsets, n)."""
    index, top = _parts(c, low, width - 1)
    bits = parities(shares, np.take(_above(width - 1), index, axis=1))
    return bits ^ top if leader else bits
