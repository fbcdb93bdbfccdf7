"""The maximum of few small numbers takes two rounds: count the entries that reach each threshold.

A tournament takes three rounds or more for each level. Here A and B open every entry once, in ring 8. The
dealer has dealt for each entry which thresholds it reaches, turned by its mask, so counts are local sums. A
second opening tells in shares which counts are not zero, and as many thresholds as these are reached by some
entry.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.sharing.additive import Additive, open_masked
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array

RING = 8  # the ring of the entries and of their counts
_HALF = 1 << (RING - 1)
MOST_ENTRIES = (1 << RING) - 1  # of a row, since counts must not wrap
MOST_REACH = _HALF // 2  # Entries and thresholds differ by less than half of the ring.
_BYTE = np.dtype(np.int8)


def dealt_bytes(length: int, rows: int, reach: int) -> int:
    """Return the bytes that are dealt for so many rows of entries with magnitudes up to `reach`."""
    return rows * (length * _HALF + 2 * reach * _turns(length))


def serves(length: int, rows: int, reach: int, worth: int) -> bool:
    """Return whether entries are few enough for this form where a saved round is worth so many bytes."""
    few = dealt_bytes(length, rows, reach) <= limit(tuning.COUNTED_BYTES, worth)
    return few and 1 < length <= MOST_ENTRIES and 0 < reach <= MOST_REACH


def _turns(length: int) -> int:
    """Return the least power of two above every count of a row."""
    return 1 << length.bit_length()


def _reached() -> NDArray[np.int8]:
    """Return [(j - r) mod 256 < 128] for every mask r, and for every place j of the first half."""
    places = np.arange(_HALF) - np.arange(2 * _HALF)[:, None]
    return ((places & (2 * _HALF - 1)) < _HALF).astype(_BYTE)


_REACHED = _reached()


@local_step(lambda mask: absent((mask.size, _HALF), _BYTE))
def _dealt_entries(mask: Array) -> Array:
    """Return the dealer's table of every entry's mask."""
    return np.take(_REACHED, mask.reshape(-1).view(np.uint8), axis=0)


@local_step(lambda c, shares, reach, *_: absent((*c.shape[1:], 2 * reach), _BYTE))
def _counts(c: Array, shares: Array, reach: int, keep: Array | None, leader: bool) -> Array:
    """Return shares of the entries of each row that reach t = reach, ..., 1 - reach: shape (rows, 2 reach).

    With c = x + r an entry reaches t if (c - t) - r mod 256 lies below 128. The second half of the table is
    the complement of the first one.
    """
    other = np.int8(leader) - shares
    table = np.concatenate([shares, other, shares, other], axis=1)
    found = np.lib.stride_tricks.sliding_window_view(table, 2 * reach, axis=1)
    starts = (c.reshape(-1).view(np.uint8) - np.uint8(reach)).astype(np.intp)
    each = found[np.arange(c.size), starts].reshape(*c.shape, 2 * reach)
    if keep is not None:
        each *= keep[..., None]
    return np.asarray(each.sum(axis=0, dtype=_BYTE))


def _turn(values: Array, turns: int) -> NDArray[np.uint8]:
    return np.asarray(values.reshape(-1).view(np.uint8) & np.uint8(turns - 1))


@local_step(lambda mask, turns: absent((mask.size, turns), _BYTE))
def _dealt_zeros(mask: Array, turns: int) -> Array:
    """Return the dealer's masks of counts, one-hot."""
    return np.asarray(_turn(mask, turns)[:, None] == np.arange(turns, dtype=np.uint8)).astype(_BYTE)


@local_step(lambda c, *_: absent(c.shape[:-1], _BYTE))
def _zeros(c: Array, shares: Array, turns: int) -> Array:
    """Return shares of how many counts of a row are zero: c = r modulo `turns`."""
    place = _turn(c, turns).astype(np.intp)
    return np.asarray(shares[np.arange(c.size), place].reshape(c.shape).sum(axis=-1, dtype=_BYTE))


def largest_by_counts(party: Party, x: Additive, reach: int, keep: Array | None = None) -> Protocol[Additive]:
    """Compute the maximum along axis 0 of integers in ring 8, which is dropped, among those kept.

    `keep` is a public mask of x's shape. The maximum of a row without kept entries is -reach. Range: |x| <=
    reach <= 64, and up to 255 entries in a row. Error: none. Rounds: 2. Cost: 16 bits online an entry and a
    threshold, and `dealt_bytes`.

    Security: entries and counts are opened under full-width masks that serve once. The dealt tables depend on
    masks alone. Source: own; tables turned by a masked index are as in TinyTable (ePrint 2016/695).
    """
    if x.fxp.ring_bits != RING:
        raise ValueError(f"entries are counted in ring {RING}, not in {x.fxp}")
    tail, turns, leader = x.shape[1:], _turns(x.shape[0]), party.role == "A"
    flat = x.reshape((x.shape[0], math.prod(tail)))
    kept = None if keep is None else np.broadcast_to(keep, x.shape).reshape(flat.shape)
    opened = yield from open_masked(party.at("entries"), flat)
    item = Deal("table", (x.size, _HALF), _BYTE)
    (table,) = yield from deal(party.at("entries"), [item], lambda: [_dealt_entries(opened.mask)])
    counts = Additive(_counts(opened.c, table, reach, kept, leader), x.fxp)
    counted = yield from open_masked(party.at("counts"), counts)
    item = Deal("table", (counts.size, turns), _BYTE)
    (table,) = yield from deal(party.at("counts"), [item], lambda: [_dealt_zeros(counted.mask, turns)])
    best = -_zeros(counted.c, table, turns)
    if leader:
        best = best + np.int8(reach)
    return Additive(best.reshape(tail), x.fxp)
