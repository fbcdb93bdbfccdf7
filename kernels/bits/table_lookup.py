"""Tables are read at a secret index from the opening c = x + r of the index, with r dealt one-hot.

The one-hot vector of x is that of r turned by the public c, so that each bit of the entry is an inner product
of public bits with dealt ones. That is local. Only the bits of the entry are opened under masks, to become
arithmetic.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits.bit_planes import Bits, to_planes
from ditto_kernels.bits.select import to_arithmetic
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, unsigned

_WORD = 64
_ENTRY = 16  # An entry has at most this many bits.

Entries = tuple[int, ...]


def _words(entries: int) -> int:
    return -(-entries // _WORD)


def entry_bits(entries: Entries) -> int:
    """Return the bits of an entry, counted from the least entry."""
    return max(1, (max(entries) - min(entries)).bit_length())


@lru_cache(maxsize=8)
def _turned(entries: Entries) -> NDArray[np.uint64]:
    """Return the mask of those r whose entry c - r has a bit, for each entry bit and c.

    The shape is (bits, words, c).
    """
    count = len(entries)
    places = np.arange(count)
    turned = (np.asarray(entries) - min(entries))[(places[:, None] - places) % count]
    padded = np.zeros((count, _WORD * _words(count)), bool)
    masks = []
    for bit in range(entry_bits(entries)):
        padded[:, :count] = turned >> bit & 1
        masks.append(np.packbits(padded, axis=1, bitorder="little").view(np.uint64).T)
    return np.ascontiguousarray(np.stack(masks))


def _index(value: Array, low: int, count: int) -> Array:
    word = value.reshape(-1).view(unsigned(8 * value.dtype.itemsize))
    return (word >> word.dtype.type(low)).astype(np.intp) & (count - 1)


def _onehot(index: Array, words: int) -> NDArray[np.uint64]:
    result = np.zeros((words, len(index)), np.uint64)
    result[index // _WORD, np.arange(len(index))] = np.left_shift(
        np.uint64(1), (index % _WORD).astype(np.uint64)
    )
    return result


@local_step(lambda c, shares, *_: absent((c.size,), np.dtype(np.uint16)))
def _entry(c: Array, shares: Array, entries: Entries, low: int) -> NDArray[np.uint16]:
    """Return XOR shares of the entries: the parity of each mask of an entry bit with the dealt vector."""
    masks, index = _turned(entries), _index(c, low, len(entries))
    result, term = np.zeros(len(index), np.uint16), np.empty(tuning.LOOKED_UP_ELEMENTS, np.uint64)
    for first in range(0, len(index), tuning.LOOKED_UP_ELEMENTS):
        part = slice(first, first + tuning.LOOKED_UP_ELEMENTS)
        chosen, share = index[part], shares[:, part]
        for bit, rows in enumerate(masks):
            total = np.zeros(len(chosen), np.uint64)
            for row, word in zip(rows, share, strict=True):
                np.take(row, chosen, out=term[: len(chosen)], mode="clip")  # The fast mode: all are in range.
                term[: len(chosen)] &= word
                total ^= term[: len(chosen)]
            for step in (32, 16, 8, 4, 2, 1):
                total ^= total >> np.uint64(step)
            result[part] |= ((total & np.uint64(1)) << np.uint64(bit)).astype(np.uint16)
    return result


def look_up(party: Party, x: Opened, entries: Entries, low: int, ring: int) -> Protocol[Additive]:
    """Return entries[i] as integers in any ring, where i consists of bits low, low + 1, ... of x.

    i has as many bits as the number of entries needs. Range: any x (modulo that number, a power of two).
    Entries span less than 2^16, else ValueError. Error: none if low = 0. Otherwise entry i + 1 may be read
    where x has bits below `low`, by chance of the mask: with probability x_low / 2^low. Cost: offline 2^m
    bits for an index of m bits; for each bit of an entry 2 bits online and k bits offline; 1 round.

    Security: r is dealt one-hot by XOR, and the entry's bits are opened under one-time masks
    (`to_arithmetic`). Source: one-time truth tables (TinyTable, ePrint 2016/695), turned by the masked index.
    """
    bits, words = entry_bits(entries), _words(len(entries))
    if bits > _ENTRY:
        raise ValueError(f"entries of {bits} bits: a table's may span {_ENTRY}")
    items = [Deal("onehot", (words, x.size), np.dtype(np.uint64), xor=True)]
    dealt = yield from deal(party, items, lambda: [_onehot(_index(x.mask, low, len(entries)), words)])
    shared = Bits(to_planes(_entry(x.c, dealt[0], entries, low), _ENTRY)[:bits], _ENTRY)
    digits = yield from to_arithmetic(party.at("bits"), shared, x.size, Fxp(ring, 0))
    total = np.full(x.size, min(entries) if party.role == "A" else 0, digits.fxp.dtype)
    for bit, share in enumerate(digits.share):
        total += share << share.dtype.type(bit)
    return Additive(total.reshape(x.shape), digits.fxp)
