"""A tournament finds the maximum along an axis and stays in 2-of-2 shares between A and B."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits.bit_planes import Bits, word_count
from ditto_kernels.bits.bit_products import Outputs, evaluate
from ditto_kernels.bits.select import multiply_bits
from ditto_kernels.bits.signs import signs
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.protocol.round_worth import ROUND_WORTH, limit
from ditto_kernels.sharing.additive import Additive, Opened, open_masked
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array


def smaller(party: Party, a: Additive, b: Additive) -> Protocol[tuple[Bits, Opened]]:
    """Return [a < b], and a - b as it was opened.

    Range: |a - b| < 2^(k-1) ulp. Rounds: 2 up to ring 16, else 3.
    """
    opened = yield from open_masked(party, Additive(a.share - b.share, a.fxp))
    below = yield from signs(party.at("sign"), opened)
    return below, opened


def larger(party: Party, a: Additive, b: Additive) -> Protocol[Additive]:
    """Return max(a, b) = a - [a < b] (a - b). Range: as for `smaller`. It takes one more round."""
    below, opened = yield from smaller(party, a, b)
    part = yield from multiply_bits(party.at("select"), below, opened)
    return Additive(a.share - part.share[0], a.fxp)


@lru_cache(maxsize=8)
def _winners(size: int) -> Outputs:
    """Return the outputs [i is the first of the largest] for i < size - 1.

    Inputs are b_ij = [x_i < x_j] for i < j, in that order. An output is the product of b_ji over earlier j
    and of 1 + b_ij over later j.
    """
    place = {pair: index for index, pair in enumerate(combinations(range(size), 2))}
    return tuple(
        ((*(place[j, i] for j in range(i)), *(~place[i, j] for j in range(i + 1, size))),)
        for i in range(size - 1)
    )


def _laid_out(array: Array, ring: int, words: int) -> Array:
    """Lay (rows, n) out as (ring, rows, words), padded.

    In the bit planes of the whole array every row then has words of its own.
    """
    rows, count = array.shape
    if count == ring * words:
        return array.reshape(rows, ring, words).swapaxes(0, 1).copy()
    full = np.zeros((rows, ring * words), array.dtype)
    full[:, :count] = array
    return full.reshape(rows, ring, words).swapaxes(0, 1).copy()


@lru_cache(maxsize=8)
def _pairs(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and the second entries of all pairs, in order."""
    first, second = np.triu_indices(size, 1)
    return first, second


def _differences(x: Opened, words: int) -> Opened:
    """Return x_i - x_j for all pairs i < j. They are linear in the openings and in their masks."""
    ring = x.fxp.ring_bits
    return Opened(_apart(x.c, ring, words), _apart(x.mask, ring, words), x.fxp)


@local_step(lambda entries, ring, words: absent((ring, math.comb(len(entries), 2), words), entries.dtype))
def _apart(entries: Array, ring: int, words: int) -> Array:
    first, second = _pairs(len(entries))
    apart = np.take(entries, first, axis=0)
    apart -= np.take(entries, second, axis=0)
    return _laid_out(apart, ring, words)


def _above_last(x: Opened, words: int) -> Opened:
    """Return x_i - x_last for all i before the last."""
    ring = x.fxp.ring_bits
    return Opened(_excess(x.c, ring, words), _excess(x.mask, ring, words), x.fxp)


@local_step(lambda entries, ring, words: absent((ring, len(entries) - 1, words), entries.dtype))
def _excess(entries: Array, ring: int, words: int) -> Array:
    return _laid_out(entries[:-1] - entries[-1], ring, words)


def first_largest(party: Party, x: Additive) -> Protocol[tuple[Bits, Opened]]:
    """Return [entry is the first of the largest] and entry - last, for all entries but the last.

    The entries lie along a short axis 0, and all pairs are compared at once. Every entry has words of its
    own: the planes have shape (1, entries * words). Range: pairwise differences < 2^(k-1) ulp. Error: none.
    Rounds: 3 up to ring 16, else 4.

    Security: every entry is opened under its own full-width mask. A difference of entries has the difference
    of their masks as its mask, and the dealer deals the digits of that. See `signs` and `evaluate`.
    """
    size, tail, ring = x.shape[0], x.shape[1:], x.fxp.ring_bits
    count, words = math.prod(tail), word_count(math.prod(tail), ring)
    opened = yield from open_masked(party.at("open"), x.reshape((size, count)))
    below = yield from signs(party.at("sign"), _differences(opened, words))
    winners = yield from evaluate(party.at("first"), below.words.reshape(-1, words), _winners(size))
    return Bits(np.stack([*winners]).reshape(1, -1), ring), _above_last(opened, words)


def largest(party: Party, x: Additive) -> Protocol[Additive]:
    """Return the maximum along a short axis 0.

    It is the last entry plus the excess of the first of the largest over it. Range, error and security: as
    for `first_largest`, and see `multiply_bits`. It takes one more round.
    """
    bits, above_last = yield from first_largest(party, x)
    part = yield from multiply_bits(party.at("select"), bits, above_last)
    tail = x.shape[1:]
    excess = part.share[0].sum(axis=1, dtype=x.fxp.dtype).reshape(-1)[: math.prod(tail)]
    return Additive(x.share[-1] + excess.reshape(tail), x.fxp)


def _depth(length: int) -> int:
    """Return the levels down to one entry, in groups of at most `tuning.LARGE_GROUP`."""
    depth = 0
    while tuning.LARGE_GROUP**depth < length:
        depth += 1
    return depth


def _group(length: int, rows: int, worth: int) -> int:
    """Return the entries of a group. Among few entries it is the smallest group that saves a level."""
    if length * rows > limit(tuning.TOURNAMENT_ENTRIES, worth):
        return min(tuning.LATE_GROUP, length) if length <= tuning.LATE_ENTRIES else 2
    depth = _depth(length)
    return next(size for size in range(2, length + 1) if _depth(length // size + length % size) < depth)


def _levels(length: int, rows: int, worth: int) -> Iterator[tuple[int, int, int]]:
    """Yield (entries of a group, groups, entries left over) for every level of a tournament."""
    while length > 1:
        size = _group(length, rows, worth)
        yield size, length // size, length % size
        length = length // size + length % size


def variant(length: int, rows: int, worth: int) -> str:
    """Name the groups of a tournament over few entries."""
    levels = [*_levels(length, rows, worth)]
    few = length * rows <= tuning.TOURNAMENT_ENTRIES or levels != [*_levels(length, rows, ROUND_WORTH)]
    return f"groups of {'·'.join(str(size) for size, _, _ in levels)}" if levels and few else ""


def tournament(party: Party, x: Additive) -> Protocol[Additive]:
    """Compute the maximum along axis 0, which is dropped. Nothing is reshared between the levels.

    Range: all pairwise differences < 2^(k-1) ulp. Error: none. Rounds up to ring 16: 3 per level of pairs and
    4 per level of fours, which is 17 for 128 entries.

    Security: that of `larger` and `largest`: openings under full-width masks, and bits under one-time masks.

    Source: the tournament is that of PUMA (arXiv 2307.12533), on masked comparison. Levels of fours are our
    own.
    """
    for level, (size, groups, left) in enumerate(_levels(x.shape[0], math.prod(x.shape[1:]), party.worth)):
        tail, scope = x.shape[1:], party.at(f"level{level}")
        members = x.share[: size * groups].reshape(size, groups, *tail)
        if size == 2:
            winners = yield from larger(scope, *(Additive(each, x.fxp) for each in members))
        else:
            winners = yield from largest(scope, Additive(members, x.fxp))
        share = winners.share
        x = Additive(np.concatenate([share, x.share[size * groups :]]) if left else share, x.fxp)
    return x.reshape(x.shape[1:])
