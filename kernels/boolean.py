"""Bit-sliced XOR sharing between A and B: bit planes, products of few bits in one round, comparisons.

Elements live in planes: n ring elements of k bits become k words-of-k-bits planes (a k x k bit transposition
of blocks), so that one word operation handles k elements. Numpy, not XLA: these are hundreds of tiny word
operations whose compilation would take a second a shape, and numpy's run time is within a few milliseconds of
XLA's at the largest layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ditto_kernels import cost as costs
from ditto_kernels.party import Deal, Party, Protocol, deal, exchange
from ditto_kernels.ring import Array, unsigned

FAN_IN = 4
DIGIT_BITS = 4
Monomial = tuple[int, ...]


@dataclass(frozen=True)
class Bits:
    """XOR shares of bits at A and B (`words` is None at the dealer): shape (..., words), k bits a word."""

    words: Array | None
    shape: tuple[int, ...]  # of the words
    word_bits: int


def word_count(size: int, word_bits: int) -> int:
    """Words that hold so many bits."""
    return -(-size // word_bits)


def transpose_bits(rows: Array) -> Array:
    """k rows of k-bit words -> k planes: bit b of plane j is bit j of row b. Delta swaps on axis 0."""
    bits = rows.shape[0]
    step = bits // 2
    while step:
        mask = sum(1 << j for j in range(bits) if not j & step)
        blocks = rows.reshape(bits // (2 * step), 2, step, *rows.shape[1:])
        upper, lower = blocks[:, 0], blocks[:, 1]
        swap = ((upper >> step) ^ lower) & rows.dtype.type(mask)
        rows = np.stack([upper ^ (swap << step), lower ^ swap], axis=1).reshape(rows.shape)
        step //= 2
    return rows


def to_planes(elements: Array, bits: int) -> Array:
    """Flat ring elements -> planes of shape (bits, words). Padding elements are zero."""
    flat = elements.reshape(-1).astype(unsigned(bits), copy=False)
    words = word_count(flat.shape[0], bits)
    if words * bits != flat.shape[0]:
        flat = np.pad(flat, (0, words * bits - flat.shape[0]))
    return transpose_bits(flat.reshape(bits, words))


def unpack(words: Array, size: int, word_bits: int) -> Array:
    """One plane (..., words) -> its bits (..., size) as 0 or 1."""
    places = np.arange(word_bits, dtype=words.dtype)
    bits = (words[..., None, :] >> places[:, None]) & words.dtype.type(1)
    return bits.reshape(*words.shape[:-1], -1)[..., :size]


def digits_of(low: int, high: int) -> tuple[tuple[int, int], ...]:
    """Bits low..high-1 cut into digits (first bit, width) of at most four bits, least significant first."""
    return tuple((start, min(DIGIT_BITS, high - start)) for start in range(low, high, DIGIT_BITS))


def onehot_planes(digits: Sequence[tuple[int, int]]) -> int:
    """Dealt planes for one-hot digits: value 0 is implied by the others."""
    return sum((1 << width) - 1 for _, width in digits)


def minterms(planes: Array, start: int, width: int) -> list[Array]:
    """[digit == v] for all v, from the planes of a digit known in the clear."""
    terms = [np.full_like(planes[start], np.iinfo(planes.dtype).max)]
    for place in reversed(range(width)):
        bit = planes[start + place]
        terms = [word for term in terms for word in (term & ~bit, term & bit)]
    return terms


def onehots(planes: Array, digits: Sequence[tuple[int, int]]) -> Array:
    """The dealer's one-hot digits of r, value 0 left out: shape (onehot_planes, words)."""
    return np.stack([term for start, width in digits for term in minterms(planes, start, width)[1:]])


def compare_digits(
    planes: Array, shares: Array, digits: Sequence[tuple[int, int]], leader: bool
) -> tuple[list[Array], list[Array]]:
    """Shares of [c_j < r_j] and [c_j == r_j] for every digit j; linear in the shared one-hot digits of r."""
    less, equal, offset = [], [], 0
    for start, width in digits:
        public = minterms(planes, start, width)
        below = public[0]
        lt = np.zeros_like(public[0])
        eq = public[0] if leader else np.zeros_like(public[0])
        for value in range(1, 1 << width):
            share = shares[offset + value - 1]
            lt = lt ^ (share & below)
            eq = eq ^ (share & (public[value] ^ public[0]))
            below = below | public[value]
        offset += (1 << width) - 1
        less.append(lt)
        equal.append(eq)
    return less, equal


def subsets(outputs: Sequence[Sequence[Monomial]]) -> tuple[Monomial, ...]:
    """The products of masks the dealer must deal: every subset of two or more inputs of a monomial."""
    needed = {
        subset
        for monomials in outputs
        for monomial in monomials
        for length in range(2, len(monomial) + 1)
        for subset in combinations(monomial, length)
    }
    return tuple(sorted(needed, key=lambda subset: (len(subset), subset)))


def opened_inputs(outputs: Sequence[Sequence[Monomial]]) -> tuple[int, ...]:
    """Inputs that occur in a product, and so must be opened under a mask."""
    return tuple(sorted({index for monomials in outputs for m in monomials if len(m) > 1 for index in m}))


def _mask_products(masks: Array, needed: tuple[Monomial, ...]) -> Array:
    products = []
    for subset in needed:
        product = masks[subset[0]]
        for index in subset[1:]:
            product = product & masks[index]
        products.append(product)
    return np.stack(products)


def _expand(
    inputs: Array,
    opened: Array,
    masks: Array,
    dealt: Array,
    outputs: tuple[tuple[Monomial, ...], ...],
    leader: bool,
) -> Array:
    places = {index: place for place, index in enumerate(opened_inputs(outputs))}
    needed = subsets(outputs)
    dealt_place = {tuple(places[i] for i in subset): place for place, subset in enumerate(needed)}
    results = []
    for monomials in outputs:
        total = np.zeros_like(inputs[0])
        for monomial in monomials:
            if len(monomial) == 1:
                total = total ^ inputs[monomial[0]]
                continue
            for length in range(len(monomial) + 1):
                for subset in combinations(monomial, length):
                    if not subset and not leader:
                        continue
                    chosen = tuple(places[i] for i in subset)
                    terms = [opened[places[i]] for i in monomial if i not in subset]
                    if length == 1:
                        terms.append(masks[chosen[0]])
                    elif length > 1:
                        terms.append(dealt[dealt_place[chosen]])
                    product = terms[0]
                    for term in terms[1:]:
                        product = product & term
                    total = total ^ product
        results.append(total)
    return np.stack(results)


def evaluate(
    party: Party,
    inputs: Array | None,
    outputs: tuple[tuple[Monomial, ...], ...],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Protocol[Array | None]:
    """XOR of products of shared bits, any number of them, in one round.

    inputs: (m, *shape) words. Each input in a product is opened under a mask the dealer knows; the products
    of masks are dealt. Formula: prod (X_i ^ m_i) = XOR_S prod_{i not in S} X_i * prod_{i in S} m_i.
    Cost: 2 bits an opened input and element online, 1 bit a dealt product offline; 1 round.
    """
    opened = opened_inputs(outputs)
    needed = subsets(outputs)
    places = {index: place for place, index in enumerate(opened)}
    mask_shape = (len(opened), *shape)
    if party.role == "D":
        first, second = party.draw_both("masks", mask_shape, dtype)
        chosen = tuple(tuple(places[i] for i in subset) for subset in needed)
        items = [Deal("products", (len(needed), *shape), dtype, xor=True)]
        yield from deal(party, items, lambda: [_mask_products(first ^ second, chosen)])
        yield from exchange(party, "masked", None, (mask_shape, dtype))
        return None
    assert inputs is not None
    masks = party.draw_with_dealer("masks", mask_shape, dtype)
    dealt = yield from deal(party, [Deal("products", (len(needed), *shape), dtype, xor=True)], list)
    mine = np.stack([inputs[i] for i in opened]) ^ masks
    other = yield from exchange(party, "masked", mine, (mask_shape, dtype))
    return _expand(inputs, mine ^ other, masks, dealt[0], outputs, party.role == "A")


def evaluate_cost(outputs: Sequence[Sequence[Monomial]], words: int, word_bits: int) -> costs.Cost:
    """Cost of `evaluate` over so many words in all."""
    masked = costs.exchanged(len(opened_inputs(outputs)) * words, word_bits)
    return masked + costs.dealt(len(subsets(outputs)) * words, word_bits)
