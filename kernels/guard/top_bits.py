"""Learn in shares in which of a few cells of its ring each value lies, by one message of one or two bytes.

The sum of D's two components is a number a that D knows, and the third component b is known to A and B. D
sends the highest bits of a in unary, under a mask. A and B read what they need at the highest bits of b.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, unsigned
from ditto_kernels.values.replicated import Rss

LIMBS = 4  # numbers that tell whether values lie in their cells, each of 8 parities in the higher byte
_BYTE, _LIMB = np.dtype(np.uint8), np.dtype(np.int16)


@dataclass(frozen=True)
class Cells:
    """The cells of a ring that a value within a bound may lie in.

    count: so many of the ring's cells, around zero, lie within the bound: 2 at least.
    bias: the number that brings the first of them to 0.
    """

    count: int
    bias: int


def cells_within(bound: float, ring: int, top: int) -> Cells:
    """Return the cells for magnitudes below a bound in ulp, where 2^top cells fill the ring.

    The last cell never counts, because sums of highest bits cannot tell it from a wrap. So magnitudes are
    admitted for certain below the bound less one and a half cells, and refused for certain from the bound on.
    Raises ValueError if the bound leaves fewer than four cells.
    """
    size = 1 << (ring - top)
    count = min(math.floor(2 * bound / size), (1 << top) - 1)
    if count < 4:
        raise ValueError(f"a bound of {bound:g} ulp is less than two cells of {size}")
    return Cells(count, count * size // 2)


@dataclass(frozen=True)
class Tops:
    """The highest bits of a, in shared unary numbers, and those of b, of each element.

    words: XOR shares at A and B. Bit v of an element tells whether the highest bits of a are v or more.
    known: the highest bits of b. Absent at the dealer.
    """

    words: Array
    known: Array
    top: int
    leader: bool

    def wraps(self) -> Array:
        """Return XOR shares of whether a + b wraps, for values that do not lie in the ring's last cell."""
        return _at_least(self.words, self.known, (1 << self.top) - 1)

    def outside(self, counts: Sequence[int], sizes: Sequence[int]) -> Array:
        """Return XOR shares of whether elements may lie outside of their cells.

        counts: the number of cells of a value, for so many elements each as `sizes` says.
        """
        return _outside(self.words, self.known, self.top, tuple(counts), tuple(sizes), self.leader)


def top_bits(party: Party, values: Sequence[Rss], biases: Sequence[int], top: int) -> Protocol[Tops]:
    """Return the highest bits of values of one ring, in one round.

    biases: is added to each value first, so that its least number is 0. top: so many bits are taken, 3 or 4.

    Cost: 2^top bits an element. Security: D's bits leave under a stream that D and B have in common, so A
    learns nothing. B knows its mask alone. Source: our own.
    """
    role, word = party.role, unsigned(1 << top)
    component: Callable[[Rss, int], Array] = {
        "D": lambda x, bias: _biased(x.mine, x.next, bias),
        "A": lambda x, bias: x.next,
        "B": lambda x, bias: x.mine,
    }[role]
    parts = [component(x, bias).reshape(-1) for x, bias in zip(values, biases, strict=True)]
    known = _top(np.concatenate(parts), top)
    shape = known.shape
    if role == "A":
        (words,) = yield Round((), (party.expect(party.dealer, "tops", shape, word),))
        return Tops(words, known, top, True)
    mask = party.draw(party.dealer, "tops", shape, word)
    yield Round((party.send(party.a, "tops", _unary(known, top) ^ mask),) if role == "D" else ())
    nothing = absent(shape, known.dtype)
    return Tops(mask, known, top, False) if role == "B" else Tops(absent(shape, word), nothing, top, False)


def parities(party: Party, bits: Array) -> Array:
    """Return this party's 3-of-3 share of LIMBS numbers in ring 16: zero if no bit is set, else random.

    bits: XOR shares, packed in bytes. Random ones are all below 2^8 in magnitude with probability 2^-32.
    """
    if party.role == "D":
        return np.zeros(LIMBS, _LIMB)
    found = _limbs(subset_parities(party, "subsets", bits, LIMBS))
    return found if party.role == "A" else -found


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


@local_step(lambda parities: absent(parities.shape, _LIMB))
def _limbs(parities: Array) -> Array:
    return parities.astype(_LIMB) << _LIMB.type(8)


@local_step(lambda mine, following, bias: mine)
def _biased(mine: Array, following: Array, bias: int) -> Array:
    return mine + following + np.asarray(bias).astype(mine.dtype)


@local_step(lambda value, top: absent(value.shape, unsigned(1 << top)))
def _top(value: Array, top: int) -> Array:
    """Return the highest bits of every element, in words of 2^top bits."""
    bits = 8 * value.dtype.itemsize
    word = np.ascontiguousarray(value).view(unsigned(bits))
    return (word >> word.dtype.type(bits - top)).astype(unsigned(1 << top))


@local_step(lambda value, top: absent(value.shape, unsigned(1 << top)))
def _unary(value: Array, top: int) -> Array:
    """Return numbers in unary. Bit 0, which says that a number is at least 0, is always set."""
    full = value.dtype.type((1 << (1 << top)) - 1)
    return full >> (value.dtype.type((1 << top) - 1) - value)


def _packed(words: Array, *_: object) -> Array:
    return absent((-(-words.size // 8),), _BYTE)


@local_step(_packed)
def _at_least(words: Array, known: Array, limit: int) -> Array:
    """Return shares of whether a number and the known one reach a limit together."""
    return _packed_lowest(words >> (words.dtype.type(limit) - known))


@local_step(_packed)
def _outside(
    words: Array, known: Array, top: int, counts: tuple[int, ...], sizes: tuple[int, ...], leader: bool
) -> Array:
    """Return shares of whether the sum modulo 2^top is one of the first count - 1 numbers, negated.

    The sum of highest bits is the cell, or the one before it.
    """
    word, last = words.dtype.type, words.dtype.type((1 << top) - 1)
    first, after = -known & last, np.empty_like(known)
    start = 0
    for count, size in zip(counts, sizes, strict=True):
        part = slice(start, start + size)
        after[part] = (word(count - 1) - known[part]) & last
        start += size
    inside = (words >> first) ^ (words >> after)
    if leader:
        inside ^= first <= after
    return _packed_lowest(inside)


def _packed_lowest(words: Array) -> Array:
    return np.packbits((words & words.dtype.type(1)).astype(bool))
