"""Learn in shares in which of a few cells of its ring each value lies, by one message of one or two bytes.

The sum of D's two components is a number a that D knows, and the third component b is known to A and B. D
sends the highest bits of a in unary, under a mask. A and B read what they need at the highest bits of b.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ditto_kernels.machine.backends import backend
from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.values.absent import absent, contiguous
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


@lru_cache(maxsize=64)
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
    """The highest bits of a, in shared unary numbers, and b, of each element of several values.

    words: XOR shares at A and B. Bit v of an element tells whether the highest bits of a are v or more.
    numbers: b of each value, in one dimension. leader: whether this party is A.
    """

    words: Array
    numbers: Sequence[Array]
    leader: bool

    def read(self, counts: Sequence[int]) -> tuple[Array, Array]:
        """Return packed XOR shares of whether elements may lie outside of their cells and whether they wrap.

        counts: the number of cells of each value. Each value begins a byte. Whether a + b wraps is right for
        elements that do not lie in the ring's last cell.
        """
        found, start = [], 0
        for known, count in zip(self.numbers, counts, strict=True):
            stop = start + known.size
            found.append(_read(self.words[start:stop], known, count, self.leader))
            start = stop
        outside, wraps = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return outside, wraps


def own_number(party: Party, x: Rss, bias: int) -> Array:
    """Return a + bias at D, and b at A and B, as unsigned numbers in one dimension: x = a + b.

    bias: brings the least x to 0.
    """
    if party.role == "D":
        known = _biased(x.mine, x.next, np.asarray(bias).astype(x.mine.dtype))
    else:
        known = x.next if party.role == "A" else x.mine
    flat = contiguous(known).reshape(-1)
    return flat.view(unsigned(8 * flat.dtype.itemsize))


def top_bits(party: Party, numbers: Sequence[Array], top: int) -> Protocol[Tops]:
    """Return the highest bits of values of one ring, in one round.

    numbers: those of each value (`own_number`). top: so many bits are taken, 3 or 4.

    Cost: 2^top bits an element. Security: D's bits leave under a stream that D and B have in common, so A
    learns nothing. B knows its mask alone. Source: our own.
    """
    role, word = party.role, unsigned(1 << top)
    shape = (sum(each.size for each in numbers),)
    if role == "A":
        (words,) = yield Round((), (party.expect(party.dealer, "tops", shape, word),))
        return Tops(words, numbers, True)
    mask = party.draw(party.dealer, "tops", shape, word)
    if role == "B":
        yield Round()
        return Tops(mask, numbers, False)
    yield Round((party.send(party.a, "tops", _masked(numbers, mask)),))
    return Tops(absent(shape, word), numbers, False)


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
    bits = words.view(_BYTE)
    length = bits.size + 8 * count - 1
    return _parities(bits, party.draw(party.dealer + 2, name, (length,), _BYTE), count)


@local_step(lambda bits, stream, count: absent((count,), _BYTE))
def _parities(bits: Array, stream: Array, count: int) -> Array:
    chosen = backend().cells.parities(bits, stream, 8 * count)
    for shift in (4, 2, 1):
        chosen ^= chosen >> np.uint8(shift)
    return np.packbits((chosen & np.uint8(1)).astype(bool))


@local_step(lambda parities: absent(parities.shape, _LIMB))
def _limbs(parities: Array) -> Array:
    return parities.astype(_LIMB) << _LIMB.type(8)


@fused()
def _biased(mine: Array, following: Array, bias: Array) -> Array:
    return mine + following + bias


@local_step(lambda numbers, masks: masks)
def _masked(numbers: Sequence[Array], masks: Array) -> Array:
    """Return the highest bits of all numbers in unary, under masks, in the place of these."""
    start = 0
    for each in numbers:
        backend().cells.unary(each, masks[start : start + each.size])
        start += each.size
    return masks


def _unread(words: Array, numbers: Array, count: int, leader: bool) -> tuple[Array, Array]:
    packed = absent((-(-numbers.size // 8),), _BYTE)
    return packed, packed


@local_step(_unread)
def _read(words: Array, numbers: Array, count: int, leader: bool) -> tuple[Array, Array]:
    return backend().cells.read(words, numbers, count, leader)
