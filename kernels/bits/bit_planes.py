"""Bit planes hold XOR-shared bits, so that one word operation handles many elements.

The file has planes, unary digits and comparisons with public digits. In n ring elements of k bits, a plane
has the same bit of every element, in words of k bits. Blocks of k elements are transposed as k x k matrices
of bits, so that one word operation handles k elements. The code uses numpy and not XLA: it consists of
hundreds of tiny word operations whose compilation would take a second per shape. The run time of numpy is
within a few milliseconds of XLA's at the largest layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ditto_kernels.machine import tuning as loops
from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, unsigned

FAN_IN = 4
DIGIT_BITS = 4


class Bits(NamedTuple):
    """XOR shares of bits at A and B, absent at the dealer.

    They lie in words of k bits, of shape (..., words).
    """

    words: Array
    word_bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the words."""
        return self.words.shape


def word_count(size: int, word_bits: int) -> int:
    """Return the number of words that hold so many bits."""
    return -(-size // word_bits)


def transpose_bits(planes: Array) -> None:
    """Do `_transposed` in place, for so few words that a loop would have no whole vector."""
    bits = planes.shape[0]
    if planes.shape[-1] * planes.dtype.itemsize % 8 == 0:
        planes = planes.view(np.uint64)  # This takes several words at once. Masks drop bits that cross words.
    word, width = planes.dtype.type, 8 * planes.dtype.itemsize
    step = bits // 2
    while step:
        mask = word(((1 << width) - 1) // ((1 << step) + 1))  # It has the bits j with j & step == 0.
        blocks = planes.reshape(bits // (2 * step), 2, step, *planes.shape[1:])
        upper, lower = blocks[:, 0], blocks[:, 1]
        swap = upper >> word(step)
        swap ^= lower
        swap &= mask
        lower ^= swap
        swap <<= word(step)
        upper ^= swap
        step //= 2


@fused(rows=("rows",))
def _transposed(rows: Sequence[Array], *, bits: int) -> list[Array]:
    """Turn k rows of elements into k planes of k-bit words, by delta swaps.

    Bit b of plane j is bit j of row b.
    """
    planes = [each.astype(unsigned(bits)) for each in rows]
    word, step = unsigned(bits).type, bits // 2
    while step:
        mask = word(((1 << bits) - 1) // ((1 << step) + 1))  # It has the bits j with j & step == 0.
        for place in (each for each in range(bits) if not each & step):
            upper, lower = planes[place], planes[place + step]
            swap = ((upper >> word(step)) ^ lower) & mask
            planes[place], planes[place + step] = upper ^ (swap << word(step)), lower ^ swap
        step //= 2
    return planes


def _rows(elements: Array, bits: int) -> Array:
    """Put ring elements (..., n) into rows of words, padded with zeros: (..., bits, words)."""
    lead, size = elements.shape[:-1], elements.shape[-1]
    words = word_count(size, bits)
    if size == bits * words:
        return elements.reshape(*lead, bits, words)
    rows = np.zeros((*lead, bits * words), elements.dtype)
    rows[..., :size] = elements
    return rows.reshape(*lead, bits, words)


@local_step(
    lambda elements, bits: absent(
        (bits, *elements.shape[:-1], word_count(elements.shape[-1], bits)), unsigned(bits)
    )
)
def to_planes(elements: Array, bits: int) -> Array:
    """Turn ring elements (..., n) into planes (bits, ..., words). Padding elements are zero."""
    rows = np.moveaxis(_rows(elements, bits), -2, 0)
    planes: Array
    if rows[0].size >= loops.LOOP_ELEMENTS:
        planes = _transposed(rows, bits=bits)
    else:
        planes = np.array(rows, unsigned(bits), order="C")
        transpose_bits(planes)
    return planes


@to_planes.for_few(
    lambda elements, bits: (
        math.prod(elements.shape[:-1]) * word_count(elements.shape[-1], bits)
        <= 8 * tuning.FEW_ELEMENT_BYTES // bits**2
    )
)
def _few_planes(elements: Array, bits: int) -> Array:
    """Do `to_planes` through one byte per bit, which takes a few calls whatever the width."""
    padded = _rows(elements, bits).astype(unsigned(bits))
    rows = padded.reshape(-1, *padded.shape[-2:])
    apart = np.unpackbits(rows.view(np.uint8), axis=-1, bitorder="little")
    joined = np.packbits(apart.reshape(*rows.shape, bits), axis=1, bitorder="little")
    planes = np.ascontiguousarray(joined.transpose(3, 0, 2, 1)).view(rows.dtype)[..., 0]
    return planes.reshape(bits, *elements.shape[:-1], rows.shape[-1])


@local_step(lambda words, size, word_bits: absent((*words.shape[:-1], size), np.dtype(bool)))
def unpack(words: Array, size: int, word_bits: int) -> Array:
    """Turn one plane (..., words) into its bits (..., size) as booleans."""
    places = np.left_shift(1, np.arange(word_bits, dtype=words.dtype), dtype=words.dtype)
    bits = (words[..., None, :] & places[:, None]) != 0
    return bits.reshape(*words.shape[:-1], -1)[..., :size]


@unpack.for_few(lambda words, size, word_bits: words.nbytes <= tuning.FEW_PLANE_BYTES)
def _unpack_few(words: Array, size: int, word_bits: int) -> Array:
    """Do `unpack` by numpy's own bits."""
    apart = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    bits = apart.reshape(*words.shape, word_bits).swapaxes(-1, -2).view(bool)
    return bits.reshape(*words.shape[:-1], -1)[..., :size]


@local_step(
    lambda bits, word_bits: absent(
        (*bits.shape[:-1], word_count(bits.shape[-1], word_bits)), unsigned(word_bits)
    )
)
def pack(bits: Array, word_bits: int) -> Array:
    """Do the inverse of `unpack`: bits (..., size) of 0 or 1 as bytes become one plane (..., words)."""
    lead, size = bits.shape[:-1], bits.shape[-1]
    words = word_count(size, word_bits)
    full = np.zeros((*lead, word_bits * words), np.uint8)
    full[..., :size] = bits
    joined = np.packbits(full.reshape(*lead, word_bits, words), axis=-2, bitorder="little")
    return np.ascontiguousarray(joined.swapaxes(-1, -2)).view(unsigned(word_bits))[..., 0]


def digits_of(low: int, high: int) -> tuple[tuple[int, int], ...]:
    """Cut bits low..high-1 into digits (first bit, width) of at most four bits.

    The least significant digit comes first.
    """
    return tuple((start, min(DIGIT_BITS, high - start)) for start in range(low, high, DIGIT_BITS))


def unary_planes(digits: Sequence[tuple[int, int]]) -> int:
    """Return the number of dealt planes for unary digits."""
    return sum((1 << width) - 1 for _, width in digits)


@fused(rows=("planes",))
def _unary(planes: Sequence[Array], *, digits: Sequence[tuple[int, int]]) -> list[Array]:
    made: list[Array] = []
    for start, width in digits:
        digit: list[Array] = []  # of the lower bits: entries for v = 1 .. 2^place - 1
        for place in range(start, start + width):
            bit = planes[place]
            digit = [*(each | bit for each in digit), bit, *(each & bit for each in digit)]
        made += digit
    return made


def unary(planes: Array, digits: Sequence[tuple[int, int]]) -> Array:
    """Return the dealer's digits of r in unary: [digit >= v] for v = 1, 2, ...

    The shape is (unary_planes, words).
    """
    made: Array = _unary(planes, digits=tuple(digits))
    return made


def look_up(terms: Array, planes: Array) -> Array:
    """Return terms[:, v] for a public v of few bits, whose planes come least significant first.

    Each bit halves the terms.
    """
    for bit in planes:
        even, odd = terms[:, 0::2], terms[:, 1::2]
        chosen = (even ^ odd) & bit
        chosen ^= even
        terms = chosen
    return terms[:, 0]


def _entry(terms: Sequence[Array], bits: Sequence[Array]) -> Array:
    """Do `look_up` in a list of terms."""
    for bit in bits:
        terms = [even ^ ((even ^ odd) & bit) for even, odd in zip(terms[0::2], terms[1::2], strict=True)]
    return terms[0]


@fused(rows=("planes", "shares"))
def _digits_compared(
    planes: Sequence[Array], shares: Sequence[Array], one: Array, *, digits: Sequence[tuple[int, int]]
) -> tuple[list[Array], list[Array]]:
    """Do `compare_digits`. `one` has the party's share of 1 in every bit."""
    less, equal, offset = [], [], 0
    for start, width in digits:
        last = (1 << width) - 1
        entries = [shares[offset + place] for place in range(last)]
        zero = entries[0] ^ entries[0]
        bits = [planes[place] for place in range(start, start + width)]
        less.append(_entry([*entries, zero], bits))
        equal.append(_entry([one, *entries], bits) ^ less[-1])
        offset += last
    return less, equal


def _compared(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    less = absent((len(digits), *planes.shape[1:]), planes.dtype)
    return less, less


@local_step(_compared)
def compare_digits(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    """Return shares of [c_j < r_j] and [c_j == r_j] for every digit j, with c in planes (bits, ..., words).

    They are entries of the shared unary digits of r. "Less" is [r_j >= c_j + 1], and "equal" is the exclusive
    or of that and [r_j >= c_j].
    """
    one = np.asarray(np.iinfo(planes.dtype).max if leader else 0, planes.dtype)
    less, equal = _digits_compared(planes, shares, one, digits=tuple(digits))
    return less, equal


@compare_digits.for_few(lambda planes, *_: planes[0].nbytes <= tuning.FEW_PLANE_BYTES)
def _compare_few(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    """Do `compare_digits` for all digits at once. Short digits are padded by a zero bit."""
    middle = (1,) * (planes.ndim - 2)
    terms = np.zeros((2, 1 << DIGIT_BITS, len(digits), *middle, planes.shape[-1]), planes.dtype)
    bits = np.zeros((DIGIT_BITS, len(digits), *planes.shape[1:]), planes.dtype)
    terms[1, 0] = np.iinfo(planes.dtype).max if leader else 0
    offset = 0
    for place, (start, width) in enumerate(digits):
        last = (1 << width) - 1
        entries = shares[offset : offset + last].reshape(last, *middle, -1)
        terms[0, :last, place] = terms[1, 1 : last + 1, place] = entries
        bits[:width, place] = planes[start : start + width]
        offset += last
    less, equal = look_up(terms, bits)
    equal ^= less
    return less, equal
