"""Bit-sliced XOR sharing between A and B: bit planes, products of few bits in one round, comparisons.

Elements live in planes: n ring elements of k bits become k words-of-k-bits planes (a k x k bit transposition
of blocks), so that one word operation handles k elements. Numpy, not XLA: these are hundreds of tiny word
operations whose compilation would take a second a shape, and numpy's run time is within a few milliseconds of
XLA's at the largest layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np

from ditto_kernels import cost as costs
from ditto_kernels.party import Deal, Party, Protocol, deal, exchange
from ditto_kernels.ring import Array, unsigned

FAN_IN = 4
DIGIT_BITS = 4
Monomial = tuple[int, ...]
_BLOCK_BYTES = 1 << 21  # of the terms that a comparison works on at once: more would leave the caches
_MIN_BLOCK = 64  # words


@dataclass(frozen=True)
class Bits:
    """XOR shares of bits at A and B (`words` is None at the dealer): shape (..., words), k bits a word."""

    words: Array | None
    shape: tuple[int, ...]  # of the words
    word_bits: int


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


def to_planes(elements: Array, bits: int) -> Array:
    """Ring elements (..., n) -> planes of shape (bits, ..., words). Padding elements are zero."""
    lead, size = elements.shape[:-1], elements.shape[-1]
    words = word_count(size, bits)
    rows = np.zeros((*lead, bits * words), unsigned(bits))
    rows[..., :size] = elements
    planes = np.ascontiguousarray(np.moveaxis(rows.reshape(*lead, bits, words), -2, 0))
    transpose_bits(planes)
    return planes


def unpack(words: Array, size: int, word_bits: int) -> Array:
    """One plane (..., words) -> its bits (..., size) as booleans."""
    places = np.left_shift(1, np.arange(word_bits, dtype=words.dtype), dtype=words.dtype)
    bits = (words[..., None, :] & places[:, None]) != 0
    return bits.reshape(*words.shape[:-1], -1)[..., :size]


def digits_of(low: int, high: int) -> tuple[tuple[int, int], ...]:
    """Bits low..high-1 cut into digits (first bit, width) of at most four bits, least significant first."""
    return tuple((start, min(DIGIT_BITS, high - start)) for start in range(low, high, DIGIT_BITS))


def onehot_planes(digits: Sequence[tuple[int, int]]) -> int:
    """Dealt planes for one-hot digits: value 0 is implied by the others."""
    return sum((1 << width) - 1 for _, width in digits)


def onehots(planes: Array, digits: Sequence[tuple[int, int]]) -> Array:
    """The dealer's one-hot digits of r, value 0 left out: shape (onehot_planes, words)."""
    result = np.empty((onehot_planes(digits), *planes.shape[1:]), planes.dtype)
    offset = 0
    for start, width in digits:
        for place, bit in enumerate(planes[start : start + width]):
            known = (1 << place) - 1  # [digit == v] of the lower bits, v = 1 .. known
            without, with_bit = result[offset : offset + known], result[offset + known + 1 :][:known]
            np.bitwise_and(without, bit, out=with_bit)
            without ^= with_bit
            np.bitwise_xor(bit, np.bitwise_xor.reduce(with_bit, axis=0), out=result[offset + known])
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


def compare_digits(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[Array, Array]:
    """Shares of [c_j < r_j] and [c_j == r_j] for every digit j, c in planes (bits, ..., words).

    Linear in the shared one-hot digits of r: the sum of the entries above c_j, and entry c_j itself.
    """
    shape = (len(digits), *planes.shape[1:])
    less, equal = np.empty(shape, planes.dtype), np.empty(shape, planes.dtype)
    middle = (1,) * (planes.ndim - 2)  # the offsets, which c has and r has not
    block = max(_MIN_BLOCK, _BLOCK_BYTES * planes.shape[-1] // (planes[:1].nbytes * 2 << DIGIT_BITS))
    for first in range(0, planes.shape[-1], block):
        part = slice(first, first + block)
        offset = 0
        for place, (start, width) in enumerate(digits):
            last = (1 << width) - 1
            onehot = shares[offset : offset + last, part]
            offset += last
            terms = np.empty((2, last + 1, *middle, onehot.shape[-1]), shares.dtype)
            above, same = terms.reshape(2, last + 1, -1)
            above[last] = 0
            for value in reversed(range(last)):
                np.bitwise_xor(above[value + 1], onehot[value], out=above[value])
            same[1:] = onehot
            same[0] = ~above[0] if leader else above[0]
            bits = planes[start : start + width, ..., part]
            less[place, ..., part], equal[place, ..., part] = look_up(terms, bits)
    return less, equal


@lru_cache(maxsize=64)
def subsets(outputs: tuple[tuple[Monomial, ...], ...]) -> tuple[Monomial, ...]:
    """The products of masks the dealer must deal: every subset of two or more inputs of a monomial."""
    needed = {
        subset
        for monomials in outputs
        for monomial in monomials
        for length in range(2, len(monomial) + 1)
        for subset in combinations(monomial, length)
    }
    return tuple(sorted(needed, key=lambda subset: (len(subset), subset)))


@lru_cache(maxsize=64)
def opened_inputs(outputs: tuple[tuple[Monomial, ...], ...]) -> tuple[int, ...]:
    """Inputs that occur in a product, and so must be opened under a mask."""
    return tuple(sorted({index for monomials in outputs for m in monomials if len(m) > 1 for index in m}))


def _mask_products(masks: Array, needed: tuple[Monomial, ...]) -> Array:
    products = np.empty((len(needed), *masks.shape[1:]), masks.dtype)
    known: dict[Monomial, Array] = {(index,): mask for index, mask in enumerate(masks)}
    for subset, product in zip(needed, products, strict=True):  # shorter ones come first
        known[subset] = np.bitwise_and(known[subset[:-1]], masks[subset[-1]], out=product)
    return products


def _share_of_product(opened: Sequence[Array], masks: Sequence[Array]) -> Array:
    """Share of prod (X_i ^ m_i): `masks` holds the shares of prod m_i of all subsets of i, in binary order.

    A factor after the other, the last first: X_i times what lacks m_i, plus what has it.
    """
    for public in reversed(opened):
        half = len(masks) // 2
        masks = [(public & masks[place]) ^ masks[half + place] for place in range(half)]
    return masks[0]


def _expand(
    inputs: Sequence[Array],
    opened: Array,
    masks: Array,
    dealt: Array,
    outputs: tuple[tuple[Monomial, ...], ...],
    leader: bool,
) -> list[Array]:
    places = {index: place for place, index in enumerate(opened_inputs(outputs))}
    known: dict[Monomial, Array] = {(): masks.dtype.type(np.iinfo(masks.dtype).max if leader else 0)}
    known |= {(index,): masks[place] for index, place in places.items()}
    known |= dict(zip(subsets(outputs), dealt, strict=True))
    results = []
    for monomials in outputs:
        total = None
        for monomial in monomials:
            term = inputs[monomial[0]]
            if len(monomial) > 1:
                masks_of = [known[subset] for subset in _binary_order(monomial)]
                term = _share_of_product([opened[places[index]] for index in monomial], masks_of)
            total = term if total is None else total ^ term
        results.append(total)
    return results


@lru_cache(maxsize=256)
def _binary_order(monomial: Monomial) -> tuple[Monomial, ...]:
    """All subsets of a monomial; bit j of a subset's number tells whether it holds index j."""
    return tuple(
        tuple(index for place, index in enumerate(monomial) if number >> place & 1)
        for number in range(1 << len(monomial))
    )


def evaluate(
    party: Party,
    inputs: Sequence[Array] | None,
    outputs: tuple[tuple[Monomial, ...], ...],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Protocol[list[Array] | None]:
    """XOR of products of shared bits, any number of them, in one round.

    inputs: words of that shape. Each input in a product is opened under a mask the dealer knows; the products
    of masks are dealt. Formula: prod (X_i ^ m_i) = XOR_S prod_{i not in S} X_i * prod_{i in S} m_i.
    Cost: 2 bits an opened input and element online, 1 bit a dealt product offline; 1 round.
    """
    opened = opened_inputs(outputs)
    needed = subsets(outputs)
    places = {index: place for place, index in enumerate(opened)}
    mask_shape = (len(opened), *shape)
    if party.role == "D":
        first, second = party.draw_to_deal("masks", mask_shape, dtype)
        chosen = tuple(tuple(places[i] for i in subset) for subset in needed)
        items = [Deal("products", (len(needed), *shape), dtype, xor=True)]
        yield from deal(party, items, lambda: [_mask_products(first ^ second, chosen)])
        yield from exchange(party, "masked", None, (mask_shape, dtype))
        return None
    assert inputs is not None
    masks = party.draw_with_dealer("masks", mask_shape, dtype)
    dealt = yield from deal(party, [Deal("products", (len(needed), *shape), dtype, xor=True)], list)
    mine = np.empty_like(masks)
    for place, index in enumerate(opened):
        np.bitwise_xor(inputs[index], masks[place], out=mine[place])
    other = yield from exchange(party, "masked", mine, (mask_shape, dtype))
    return _expand(inputs, mine ^ other, masks, dealt[0], outputs, party.role == "A")


def evaluate_cost(outputs: tuple[tuple[Monomial, ...], ...], words: int, word_bits: int) -> costs.Cost:
    """Cost of `evaluate` over so many words in all."""
    masked = costs.exchanged(len(opened_inputs(outputs)) * words, word_bits)
    return masked + costs.dealt(len(subsets(outputs)) * words, word_bits)
