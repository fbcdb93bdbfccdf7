"""XOR of products of shared bits, any number of factors, negated or not, in one round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations
from operator import xor

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol
from ditto_kernels.sharing.open_and_deal import open_and_deal
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Rows

Monomial = tuple[int, ...]  # places of factors; ~place means the negated one
Outputs = tuple[tuple[Monomial, ...], ...]


def _place(factor: int) -> int:
    return factor if factor >= 0 else ~factor


@lru_cache(maxsize=128)
def subsets(outputs: Outputs) -> tuple[Monomial, ...]:
    """The products of masks the dealer must deal: every subset of two or more inputs of a monomial."""
    needed = {
        subset
        for monomials in outputs
        for monomial in monomials
        for length in range(2, len(monomial) + 1)
        for subset in combinations(sorted(map(_place, monomial)), length)
    }
    return tuple(sorted(needed, key=lambda subset: (len(subset), subset)))


@lru_cache(maxsize=128)
def opened_inputs(outputs: Outputs) -> tuple[int, ...]:
    """Inputs that occur in a product, and so must be opened under a mask."""
    return tuple(
        sorted({_place(each) for monomials in outputs for m in monomials if len(m) > 1 for each in m})
    )


@dataclass(frozen=True)
class _Table:
    """Which rows the few calls over all monomials take, all padded to the longest; see `_expand_few`."""

    products: tuple[
        tuple[NDArray[np.intp], NDArray[np.intp]], ...
    ]  # two rows of (masks, products), by length
    factors: NDArray[np.intp]  # of every monomial: rows of (opened, negated opened, ones)
    shares: NDArray[np.intp]  # of every monomial's products of masks: rows of (0, 1, masks, dealt, alone)
    starts: NDArray[np.intp] | None  # of the outputs' monomials; None: one each
    alone: tuple[int, ...]  # inputs that are monomials


@lru_cache(maxsize=128)
def _table(outputs: Outputs) -> _Table:
    opened, needed = opened_inputs(outputs), subsets(outputs)
    count, flat = len(opened), [monomial for monomials in outputs for monomial in monomials]
    places = {index: place for place, index in enumerate(opened)}
    alone = tuple(sorted({_place(monomial[0]) for monomial in flat if len(monomial) == 1}))
    inputs = {index: 2 + count + len(needed) + place for place, index in enumerate(alone)}
    known: dict[Monomial, int] = {(): 1} | {(index,): 2 + place for index, place in places.items()}
    known |= {subset: 2 + count + place for place, subset in enumerate(needed)}
    width = max(map(len, flat))
    factors = np.full((len(flat), width), 2 * count, np.intp)
    shares = np.zeros((len(flat), 1 << width), np.intp)
    for row, monomial in enumerate(flat):
        if len(monomial) == 1:
            shares[row, :2] = inputs[_place(monomial[0])], int(monomial[0] < 0)
            continue
        ordered = sorted(monomial, key=_place)
        factors[row, : len(ordered)] = [
            places[each] if each >= 0 else count + places[~each] for each in ordered
        ]
        shares[row, : 1 << len(ordered)] = [known[subset] for subset in _binary_order(monomial)]
    lengths = [len(monomials) for monomials in outputs]
    starts = None if max(lengths) == 1 else np.cumsum([0, *lengths[:-1]])
    rows = {subset: row - 2 for subset, row in known.items()}
    products = []
    for length in range(2, width + 1):
        made = [subset for subset in needed if len(subset) == length]
        parts = [[rows[subset[:-1]] for subset in made], [rows[subset[-1:]] for subset in made]]
        products.append((np.asarray(parts[0]), np.asarray(parts[1])))
    return _Table(tuple(products), factors, shares, starts, alone)


def _ones(like: Array) -> Array:
    return np.full((1, *like.shape[1:]), np.iinfo(like.dtype).max, like.dtype)


def _product_of_masks(masks: Array, outputs: Outputs) -> Array:
    return absent((len(subsets(outputs)), *masks.shape[1:]), masks.dtype)


def _are_few(inputs: Array) -> bool:
    return math.prod(inputs.shape[1:]) * inputs.dtype.itemsize <= tuning.FEW_INPUT_BYTES


@local_step(_product_of_masks)
def mask_products(masks: Array, outputs: Outputs) -> Array:
    """The products of masks that the dealer deals, in the order of `subsets`."""
    needed, opened = subsets(outputs), opened_inputs(outputs)
    products = np.empty((len(needed), *masks.shape[1:]), masks.dtype)
    known: dict[Monomial, Array] = {(index,): mask for index, mask in zip(opened, masks, strict=True)}
    for subset, product in zip(needed, products, strict=True):  # shorter ones come first
        known[subset] = np.bitwise_and(known[subset[:-1]], known[subset[-1:]], out=product)
    return products


@mask_products.for_few(lambda masks, outputs: _are_few(masks))
def _mask_products_few(masks: Array, outputs: Outputs) -> Array:
    """`mask_products` of a length at once."""
    made = masks
    for shorter, last in _table(outputs).products:
        made = np.concatenate([made, made[shorter] & masks[last]])
    return made[len(masks) :]


@local_step(lambda inputs, outputs: absent((len(opened_inputs(outputs)), *inputs[0].shape), inputs[0].dtype))
def _to_open(inputs: Rows, outputs: Outputs) -> Array:
    """The inputs that occur in a product."""
    opened = opened_inputs(outputs)
    mine = np.empty((len(opened), *inputs[0].shape), inputs[0].dtype)
    for place, index in enumerate(opened):
        mine[place] = inputs[index]
    return mine


def _share_of_product(opened: Sequence[Array], masks: Sequence[Array]) -> Array:
    """Share of prod (X_i ^ m_i): `masks` holds the shares of prod m_i of all subsets of i, in binary order.

    A factor after the other, the last first: X_i times what lacks m_i, plus what has it.
    """
    for public in reversed(opened):
        half = len(masks) // 2
        masks = [(public & masks[place]) ^ masks[half + place] for place in range(half)]
    return masks[0]


def _expanded(
    inputs: Rows, opened: Array, masks: Array, dealt: Array, outputs: Outputs, leader: bool
) -> Array:
    return absent((len(outputs), *masks.shape[1:]), masks.dtype)


@local_step(_expanded)
def expand(inputs: Rows, opened: Array, masks: Array, dealt: Array, outputs: Outputs, leader: bool) -> Rows:
    """Shares of the outputs from the opened inputs and from shares of all products of their masks."""
    factors: dict[int, Array] = {}
    one = masks.dtype.type(np.iinfo(masks.dtype).max if leader else 0)
    known: dict[Monomial, Array] = {(): one}
    for place, index in enumerate(opened_inputs(outputs)):
        factors[index] = opened[place]
        known[index,] = masks[place]
    known |= dict(zip(subsets(outputs), dealt, strict=True))
    negated = {each for monomials in outputs for m in monomials if len(m) > 1 for each in m if each < 0}
    factors |= {each: ~factors[~each] for each in negated}

    def term(monomial: Monomial) -> Array:
        if len(monomial) > 1:
            masks_of = [known[subset] for subset in _binary_order(monomial)]
            return _share_of_product([factors[each] for each in sorted(monomial, key=_place)], masks_of)
        alone = inputs[_place(monomial[0])]
        return alone ^ one if monomial[0] < 0 else alone

    return [reduce(xor, map(term, monomials)) for monomials in outputs]


@expand.for_few(lambda inputs, opened, masks, *_: _are_few(masks))
def _expand_few(
    inputs: Rows, opened: Array, masks: Array, dealt: Array, outputs: Outputs, leader: bool
) -> Array:
    """`expand` of all monomials at once: a factor after the other, the last first."""
    table, ones = _table(outputs), _ones(masks)
    zeros = np.zeros_like(ones)
    alone = [inputs[index][None] for index in table.alone]
    terms = np.concatenate([zeros, ones if leader else zeros, masks, dealt, *alone])[table.shares]
    factors = np.concatenate([opened, ~opened, ones])[table.factors]
    for place in reversed(range(factors.shape[1])):
        half = 1 << place
        part = terms[:, :half]
        part &= factors[:, place, None]
        part ^= terms[:, half : 2 * half]
        terms = part
    terms = terms[:, 0]
    return terms if table.starts is None else np.bitwise_xor.reduceat(terms, table.starts, axis=0)


@lru_cache(maxsize=256)
def _binary_order(monomial: Monomial) -> tuple[Monomial, ...]:
    """All subsets of a monomial's inputs; bit j of a subset's number tells whether it holds the j-th."""
    places = sorted(map(_place, monomial))
    return tuple(
        tuple(each for place, each in enumerate(places) if number >> place & 1)
        for number in range(1 << len(places))
    )


def evaluate(party: Party, inputs: Rows, outputs: Outputs) -> Protocol[Rows]:
    """XOR of products of shared bits, any number of them, in one round.

    inputs: words of one shape and type. Each input in a product is opened under a mask the dealer knows; the
    products of masks are dealt. Formula: prod (X_i ^ m_i) = XOR_S prod_{i not in S} X_i * prod_{i in S} m_i;
    a negated factor is a negated X_i.
    Cost: 2 bits an opened input and element online, 1 bit a dealt product offline; 1 round.
    """
    item = Deal("products", (len(subsets(outputs)), *inputs[0].shape), inputs[0].dtype, xor=True)
    known, masks, dealt = yield from open_and_deal(
        party, "masked", _to_open(inputs, outputs), [item], lambda mask: [mask_products(mask, outputs)]
    )
    made: Rows = expand(inputs, known, masks, dealt[0], outputs, party.role == "A")
    return made
