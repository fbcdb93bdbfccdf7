"""Argmax gives the place of a maximum as a one-hot vector, from the decisions of a tournament.

Each comparison of the tournament leaves a shared bit per contender. An entry is the largest if it won all the
comparisons on its way to the top. That is one product of as many bits as there are levels, and one round
multiplies four of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits.bit_planes import FAN_IN, Bits, unpack, word_count
from ditto_kernels.bits.bit_products import evaluate
from ditto_kernels.bits.select import (
    multiply_bits,
    to_arithmetic,
)
from ditto_kernels.maximum.maximum import axis_first
from ditto_kernels.maximum.tournament import (
    first_largest,
    smaller,
)
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.cost import elements
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.sharing.additive import Additive, from_rss, to_rss
from ditto_kernels.values.absent import absent, contiguous
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WORD = 8
_BYTE = np.dtype(np.uint8)


@dataclass(frozen=True)
class _Level:
    """A level has `groups` groups of `size` neighbouring entries. `left` entries behind them pass."""

    size: int
    groups: int
    left: int

    @property
    def entries(self) -> int:
        return self.size * self.groups + self.left

    @property
    def above(self) -> NDArray[np.intp]:
        """The entry of the next level to which each entry belongs.

        The order is kept, so that the first of equal entries wins.
        """
        grouped = np.repeat(np.arange(self.groups), self.size)
        return np.concatenate([grouped, self.groups + np.arange(self.left)])


@lru_cache(maxsize=16)
def _levels(length: int, rows: int, worth: int) -> tuple[_Level, ...]:
    levels = []
    while length > 1:
        size = min(4, length) if length * rows <= limit(tuning.ARGMAX_VALUES, worth) else 2
        levels.append(_Level(size, length // size, length % size))
        length = length // size + length % size
    return tuple(levels)


def _members(x: Additive, level: _Level) -> tuple[Array, Array]:
    """Return (the entries of all groups, with the place in a group first; the entries that are left over)."""
    grouped = level.size * level.groups
    inside = x.share[:grouped].reshape(level.groups, level.size, *x.shape[1:])
    return contiguous(np.moveaxis(inside, 1, 0)), x.share[grouped:]


def _decide(
    party: Party, x: Additive, level: _Level, last: bool
) -> Protocol[tuple[NDArray[np.uint8], Additive]]:
    """Return (this level's decisions as shared bits (entries, rows); the winners).

    The winner of the last level is not needed.
    """
    members, rest = _members(x, level)
    if level.size == 2:
        bits, opened = yield from smaller(party, *(Additive(each, x.fxp) for each in members))
    else:
        bits, opened = yield from first_largest(party, Additive(members, x.fxp))
    won = _won(bits.words, level, math.prod(x.shape[1:]), bits.word_bits, party.role == "A")
    if last:
        return won, x
    part = yield from multiply_bits(party.at("select"), bits, opened)
    return won, Additive(np.concatenate([_winners(members, part.share[0]), rest]), x.fxp)


def _winners(members: Array, excess: Array) -> Array:
    """Return a share of the largest entry of each group.

    It is the first of two entries less its excess, or the last entry plus the excess over it.
    """
    if len(members) == 2:
        return members[0] - excess
    total = excess.sum(axis=1, dtype=members.dtype).reshape(-1)[: math.prod(members.shape[1:])]
    return members[-1] + total.reshape(members.shape[1:])


@local_step(lambda words, level, rows, *_: absent((level.entries, rows), _BYTE))
def _won(words: Array, level: _Level, rows: int, word_bits: int, leader: bool) -> NDArray[np.uint8]:
    """Return XOR shares of [entry wins its group], in shape (entries, rows).

    An entry that is left over wins publicly.
    """
    count = level.groups * rows
    planes = unpack(words.reshape(level.size - 1, -1), count, word_bits).astype(np.uint8)
    others = np.bitwise_xor.reduce(planes, axis=0) ^ np.uint8(leader)
    # In a group of two the bit says that the second wins. In one of four, that one of the first three does.
    won = np.stack([others, planes[0]]) if level.size == 2 else np.concatenate([planes, others[None]])
    grouped = won.reshape(level.size, level.groups, rows).swapaxes(0, 1).reshape(-1, rows)
    return np.concatenate([grouped, np.full((level.left, rows), leader, np.uint8)])


@local_step(lambda bits: absent((word_count(bits.size, _WORD),), _BYTE))
def _packed(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack bits into words of eight, as `bit_planes.unpack` reads them."""
    flat = bits.reshape(-1)
    words = word_count(flat.size, _WORD)
    full = np.pad(flat, (0, _WORD * words - flat.size)).reshape(_WORD, -1)
    return np.packbits(full, axis=0, bitorder="little")[0]


def _product(party: Party, factors: list[NDArray[np.uint8]]) -> Protocol[NDArray[np.uint8]]:
    """Return the shared product of shared bits, for each of (entries, rows)."""
    if len(factors) == 1:
        return factors[0]
    made = yield from evaluate(party, [_packed(each) for each in factors], ((tuple(range(len(factors))),),))
    shape = factors[0].shape
    return unpack(made[0], math.prod(shape), _WORD).reshape(shape).view(np.uint8)


def _multiplied_down(
    party: Party, decisions: list[NDArray[np.uint8]], levels: tuple[_Level, ...]
) -> Protocol[NDArray[np.uint8]]:
    """Return shared bits [entry is the largest].

    They are products over chunks of levels, then over chunks of these products.
    """
    depth = 0
    above = [level.above for level in levels]
    entries = [level.entries for level in levels]
    while len(decisions) > 1:
        starts = range(0, len(decisions), FAN_IN)
        protocols = []
        for start in starts:
            group, factors = decisions[start : start + FAN_IN], []
            place = np.arange(entries[start])
            for offset, each in enumerate(group):
                factors.append(each[place])
                place = above[start + offset][place]
            protocols.append(_product(party.at(f"chunk{depth}.{start}"), factors))
        decisions = yield from parallel(*protocols)
        above = [_joined(above[start : start + FAN_IN]) for start in starts]
        entries = [entries[start] for start in starts]
        depth += 1
    return decisions[0]


def _joined(steps: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    place = steps[0]
    for step in steps[1:]:
        place = step[place]
    return place


def _run(party: Party, x: Rss, out: Fxp, dim: int = -1) -> Protocol[Rss]:
    """Return 1 where x is largest along `dim`, at the first of equals, and 0 elsewhere.

    The result has x's shape and format `out`. Range: pairwise differences < 2^(k-1) ulp of x. Error: none.
    Rounds: 3 per level of pairs, 4 per level of fours (up to ring 16, else one more), 1 for every power of
    four levels, and 2 at the end.

    Security: comparisons are those of `tournament`. Decisions are opened under one-time masks (`evaluate`,
    `to_arithmetic`), which are fresh each time. Nothing reveals which entry won.
    """
    value = axis_first(from_rss(party, x), dim)
    (length, *tail), rows = value.shape, math.prod(value.shape[1:])
    levels, decisions = _levels(length, rows, party.worth), []
    for number, level in enumerate(levels):
        last = number == len(levels) - 1
        won, value = yield from _decide(party.at(f"level{number}"), value, level, last)
        decisions.append(won)
    if levels:
        hot = yield from _multiplied_down(party.at("down"), decisions, levels)
    else:
        hot = np.full((1, rows), party.role == "A", np.uint8)
    bits = Bits(_packed(hot)[None], _WORD)
    digits = yield from to_arithmetic(party.at("bits"), bits, x.size, Fxp(out.ring_bits, 0))
    share = contiguous(np.moveaxis(digits.share.reshape(length, *tail), 0, dim))
    return (yield from to_rss(party, Additive(share << out.dtype.type(out.fraction_bits), out)))


def _reference(x: Array, dim: int = -1) -> NDArray[np.float64]:
    value = np.asarray(x)
    hot = np.zeros(value.shape)
    np.put_along_axis(hot, np.argmax(value, axis=dim, keepdims=True), 1.0, axis=dim)
    return hot


def _error(x: Spec, out: Fxp, dim: int = -1) -> float:
    return 0.0


def _variant(x: Spec, out: Fxp, worth: int, dim: int = -1) -> str:
    sizes = [level.size for level in _levels(x.shape[dim], elements(x.shape) // x.shape[dim], worth)]
    return f"groups of {'·'.join(map(str, sizes))}" if any(size > 2 for size in sizes) else ""


ARGMAX = Kernel(
    "argmax",
    _run,
    _reference,
    _error,
    "tournament: PUMA, arXiv 2307.12533; products of masked bits as in masked comparison; together own",
    along="dim",
    variant=_variant,
)
