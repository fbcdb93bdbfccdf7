"""Bit-sliced XOR sharing between A and B: bit planes, unary digits, comparisons with public digits.

Elements live in planes: n ring elements of k bits become k words-of-k-bits planes (a k x k bit transposition
of blocks), so that one word operation handles k elements. Numpy, not XLA: these are hundreds of tiny word
operations whose compilation would take a second a shape, and numpy's run time is within a few milliseconds of
XLA's at the largest layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, unsigned

FAN_IN = 4
DIGIT_BITS = 4


@dataclass(frozen=True)
class Bits:
    """XOR shares of bits at A and B, absent at the dealer: words of k bits, of shape (..., words)."""

    words: Array
    word_bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the words."""
        return self.words.shape


def word_count(size: int, word_bits: int) -> int:
    """Words that hold so many bits."""
    return -(-size // word_bits)


def transpose_bits(planes: Array) -> None:
    """k rows of k-bit words -> k planes, in place: bit b of plane j is bit j of row b. By delta swaps."""
    bits = planes.shape[0]
    if planes.shape[-1] * planes.dtype.itemsize % 8 == 0:
        planes = planes.view(np.uint64)  # several words at once: the masks drop what crosses between them
    word, width = planes.dtype.type, 8 * planes.dtype.itemsize
    step = bits // 2
    while step:
        mask = word(((1 << width) - 1) // ((1 << step) + 1))  # bits j with j & step == 0
        blocks = planes.reshape(bits // (2 * step), 2, step, *planes.shape[1:])
        upper, lower = blocks[:, 0], blocks[:, 1]
        swap = upper >> word(step)
        swap ^= lower
        swap &= mask
        lower ^= swap
        swap <<= word(step)
        upper ^= swap
        step //= 2


def _rows(elements: Array, bits: int) -> Array:
    """Ring elements (..., n) in words of that many bits, padded with zeros: (..., bits, words)."""
    lead, size = elements.shape[:-1], elements.shape[-1]
    words = word_count(size, bits)
    rows = np.zeros((*lead, bits * words), unsigned(bits))
    rows[..., :size] = elements
    return rows.reshape(*lead, bits, words)


@local_step(
    lambda elements, bits: absent(
        (bits, *elements.shape[:-1], word_count(elements.shape[-1], bits)), unsigned(bits)
    )
)
def to_planes(elements: Array, bits: int) -> Array:
    """Ring elements (..., n) -> planes of shape (bits, ..., words). Padding elements are zero."""
    planes = np.ascontiguousarray(np.moveaxis(_rows(elements, bits), -2, 0))
    transpose_bits(planes)
    return planes


@to_planes.for_few(
    lambda elements, bits: (
        math.prod(elements.shape[:-1]) * word_count(elements.shape[-1], bits)
        <= 8 * tuning.FEW_ELEMENT_BYTES // bits**2
    )
)
def _few_planes(elements: Array, bits: int) -> Array:
    """`to_planes` through a byte a bit: a few calls whatever the width."""
    padded = _rows(elements, bits)
    rows = padded.reshape(-1, *padded.shape[-2:])
    apart = np.unpackbits(rows.view(np.uint8), axis=-1, bitorder="little")
    joined = np.packbits(apart.reshape(*rows.shape, bits), axis=1, bitorder="little")
    planes = np.ascontiguousarray(joined.transpose(3, 0, 2, 1)).view(rows.dtype)[..., 0]
    return planes.reshape(bits, *elements.shape[:-1], rows.shape[-1])


@local_step(lambda words, size, word_bits: absent((*words.shape[:-1], size), np.dtype(bool)))
def unpack(words: Array, size: int, word_bits: int) -> Array:
    """One plane (..., words) -> its bits (..., size) as booleans."""
    places = np.left_shift(1, np.arange(word_bits, dtype=words.dtype), dtype=words.dtype)
    bits = (words[..., None, :] & places[:, None]) != 0
    return bits.reshape(*words.shape[:-1], -1)[..., :size]


@unpack.for_few(lambda words, size, word_bits: words.nbytes <= tuning.FEW_PLANE_BYTES)
def _unpack_few(words: Array, size: int, word_bits: int) -> Array:
    """`unpack` by numpy's own bits."""
    apart = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    bits = apart.reshape(*words.shape, word_bits).swapaxes(-1, -2).view(bool)
    return bits.reshape(*words.shape[:-1], -1)[..., :size]


@local_step(
    lambda bits, word_bits: absent(
        (*bits.shape[:-1], word_count(bits.shape[-1], word_bits)), unsigned(word_bits)
    )
)
def pack(bits: Array, word_bits: int) -> Array:
    """The inverse of `unpack`: bits (..., size) of 0 or 1 as bytes -> one plane (..., words)."""
    lead, size = bits.shape[:-1], bits.shape[-1]
    words = word_count(size, word_bits)
    full = np.zeros((*lead, word_bits * words), np.uint8)
    full[..., :size] = bits
    joined = np.packbits(full.reshape(*lead, word_bits, words), axis=-2, bitorder="little")
    return np.ascontiguousarray(joined.swapaxes(-1, -2)).view(unsigned(word_bits))[..., 0]


def digits_of(low: int, high: int) -> tuple[tuple[int, int], ...]:
    """Bits low..high-1 cut into digits (first bit, width) of at most four bits, least significant first."""
    return tuple((start, min(DIGIT_BITS, high - start)) for start in range(low, high, DIGIT_BITS))


def unary_planes(digits: Sequence[tuple[int, int]]) -> int:
    """Dealt planes for unary digits."""
    return sum((1 << width) - 1 for _, width in digits)


def unary(planes: Array, digits: Sequence[tuple[int, int]]) -> Array:
    """The dealer's digits of r in unary, [digit >= v] for v = 1, 2, ...: shape (unary_planes, words)."""
    result = np.empty((unary_planes(digits), *planes.shape[1:]), planes.dtype)
    offset = 0
    for start, width in digits:
        for place, bit in enumerate(planes[start : start + width]):
            known = (1 << place) - 1  # of the lower bits, v = 1 .. known
            lower, upper = result[offset : offset + known], result[offset + known + 1 :][:known]
            np.bitwise_and(lower, bit, out=upper)
            lower |= bit
            result[offset + known] = bit
        offset += (1 << width) - 1
    return result


def look_up(terms: Array, planes: Array) -> Array:
    """terms[:, v] for a public v of few bits, its planes least significant first: halves the terms a bit."""
    for bit in planes:
        even, odd = terms[:, 0::2], terms[:, 1::2]
        chosen = (even ^ odd) & bit
        chosen ^= even
        terms = chosen
    return terms[:, 0]


def _compared(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    less = absent((len(digits), *planes.shape[1:]), planes.dtype)
    return less, less


@local_step(_compared)
def compare_digits(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    """Shares of [c_j < r_j] and [c_j == r_j] for every digit j, c in planes (bits, ..., words).

    Entries of the shared unary digits of r: [r_j >= c_j + 1], and [r_j >= c_j] without it.
    """
    shape = (len(digits), *planes.shape[1:])
    less, equal = np.empty(shape, planes.dtype), np.empty(shape, planes.dtype)
    middle = (1,) * (planes.ndim - 2)  # the offsets, which c has and r has not
    one = np.iinfo(planes.dtype).max if leader else 0
    block = max(
        tuning.COMPARED_WORDS,
        tuning.COMPARED_BYTES * planes.shape[-1] // (planes[:1].nbytes * 2 << DIGIT_BITS),
    )
    for first in range(0, planes.shape[-1], block):
        part = slice(first, first + block)
        offset = 0
        for place, (start, width) in enumerate(digits):
            last = (1 << width) - 1
            entries = shares[offset : offset + last, part].reshape(last, *middle, -1)
            offset += last
            terms = np.empty((2, last + 1, *entries.shape[1:]), shares.dtype)
            terms[0, :last], terms[0, last] = entries, 0
            terms[1, 1:], terms[1, 0] = entries, one
            bits = planes[start : start + width, ..., part]
            less[place, ..., part], equal[place, ..., part] = look_up(terms, bits)
    equal ^= less
    return less, equal


@compare_digits.for_few(lambda planes, *_: planes[0].nbytes <= tuning.FEW_PLANE_BYTES)
def _compare_few(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    """`compare_digits` of all digits at once, short ones padded by a zero bit."""
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
