"""The XOR of products of shared bits takes one round for any number of factors, negated or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations
from operator import xor

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol
from ditto_kernels.sharing.open_and_deal import open_and_deal
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Rows

Monomial = tuple[int, ...]  # the places of factors, where ~place means the negated one
Outputs = tuple[tuple[Monomial, ...], ...]


def _place(factor: int) -> int:
    return factor if factor >= 0 else ~factor


@lru_cache(maxsize=128)
def subsets(outputs: Outputs) -> tuple[Monomial, ...]:
    """Return the products of masks that the dealer deals.

    They are the products over every subset of two or more inputs of a monomial.
    """
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
    """Return the inputs that occur in a product. These must be opened under a mask."""
    return tuple(
        sorted({_place(each) for monomials in outputs for m in monomials if len(m) > 1 for each in m})
    )


@dataclass(frozen=True)
class _Table:
    """The rows that a few calls over all monomials take, all padded to the longest: see `_expand_few`."""

    products: tuple[
        tuple[NDArray[np.intp], NDArray[np.intp]], ...
    ]  # the two rows of (masks, products) that are multiplied, by length
    factors: NDArray[np.intp]  # rows of (opened, negated opened, ones) for every monomial
    shares: NDArray[np.intp]  # rows of (0, 1, masks, dealt, alone) for every monomial's products of masks
    starts: NDArray[np.intp] | None  # the start of each output's monomials, or None if each has one
    alone: tuple[int, ...]  # the inputs that are monomials


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
    """Return the products of masks that the dealer deals, in the order of `subsets`."""
    made: Array = _multiplied(masks, outputs=outputs)
    return made


@fused(rows=("masks",))
def _multiplied(masks: Sequence[Array], *, outputs: Outputs) -> list[Array]:
    singles = zip(opened_inputs(outputs), masks, strict=True)
    known: dict[Monomial, Array] = {(index,): mask for index, mask in singles}
    for subset in subsets(outputs):  # Shorter subsets come first.
        known[subset] = known[subset[:-1]] & known[subset[-1:]]
    return [known[subset] for subset in subsets(outputs)]


@mask_products.for_few(lambda masks, outputs: _are_few(masks))
def _mask_products_few(masks: Array, outputs: Outputs) -> Array:
    """Do `mask_products` for all products of one length at once."""
    made = masks
    for shorter, last in _table(outputs).products:
        made = np.concatenate([made, made[shorter] & masks[last]])
    return made[len(masks) :]


@local_step(lambda inputs, outputs: absent((len(opened_inputs(outputs)), *inputs[0].shape), inputs[0].dtype))
def _to_open(inputs: Rows, outputs: Outputs) -> Array:
    """Return the inputs that occur in a product."""
    opened = opened_inputs(outputs)
    mine = np.empty((len(opened), *inputs[0].shape), inputs[0].dtype)
    for place, index in enumerate(opened):
        mine[place] = inputs[index]
    return mine


def _share_of_product(opened: Sequence[Array], masks: Sequence[Array]) -> Array:
    """Return a share of prod (X_i ^ m_i), where `masks` has shares of prod m_i over all subsets of i.

    The subsets are in binary order. The factors follow one after the other, the last one first. Each step
    multiplies the terms without m_i by X_i and adds those with m_i.
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
    """Return shares of the outputs from the opened inputs and from shares of all products of their masks."""
    alone = {_place(m[0]) for monomials in outputs for m in monomials if len(m) == 1}
    stacked = np.stack([inputs[place] for place in sorted(alone)]) if alone else masks[:0]
    one = np.asarray(np.iinfo(masks.dtype).max if leader else 0, masks.dtype)
    made: Array = _joined(stacked, opened, masks, dealt, one, outputs=outputs)
    return made


@fused(rows=("alone", "opened", "masks", "dealt"))
def _joined(
    alone: Sequence[Array],
    opened: Sequence[Array],
    masks: Sequence[Array],
    dealt: Sequence[Array],
    one: Array,
    *,
    outputs: Outputs,
) -> list[Array]:
    """Do `expand`. `alone` has the inputs that are monomials, in order, and `one` the party's share of 1."""
    factors: dict[int, Array] = {}
    known: dict[Monomial, Array] = {(): one}
    for place, index in enumerate(opened_inputs(outputs)):
        factors[index], factors[~index] = opened[place], ~opened[place]
        known[index,] = masks[place]
    known |= dict(zip(subsets(outputs), dealt, strict=True))
    single = sorted({_place(m[0]) for monomials in outputs for m in monomials if len(m) == 1})

    def term(monomial: Monomial) -> Array:
        if len(monomial) > 1:
            masks_of = [known[subset] for subset in _binary_order(monomial)]
            return _share_of_product([factors[each] for each in sorted(monomial, key=_place)], masks_of)
        input_of = alone[single.index(_place(monomial[0]))]
        return input_of ^ one if monomial[0] < 0 else input_of

    return [reduce(xor, map(term, monomials)) for monomials in outputs]


@expand.for_few(lambda inputs, opened, masks, *_: _are_few(masks))
def _expand_few(
    inputs: Rows, opened: Array, masks: Array, dealt: Array, outputs: Outputs, leader: bool
) -> Array:
    """Do `expand` for all monomials at once, one factor after the other, the last one first."""
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
    """Return all subsets of a monomial's inputs.

    Bit j of a subset's number tells whether the subset has the j-th input.
    """
    places = sorted(map(_place, monomial))
    return tuple(
        tuple(each for place, each in enumerate(places) if number >> place & 1)
        for number in range(1 << len(places))
    )


def evaluate(party: Party, inputs: Rows, outputs: Outputs) -> Protocol[Rows]:
    """Evaluate XORs of products of shared bits, any number of them, in one round.

    `inputs` are words of one shape and type. Each input in a product is opened under a mask that the dealer
    knows, and the products of masks are dealt. Formula: prod (X_i ^ m_i) = XOR_S prod_{i not in S} X_i *
    prod_{i in S} m_i. A negated factor is a negated X_i.

    Cost: online 2 bits per opened input and element, offline 1 bit per dealt product, in 1 round. Error:
    none. Security: openings are one-time-padded, because A and B each lack the other's half of a mask. The
    dealer receives nothing. Source: masked multi-input gates as in ABY2.0 (ePrint 2020/1225).
    """
    item = Deal("products", (len(subsets(outputs)), *inputs[0].shape), inputs[0].dtype, xor=True)
    known, masks, dealt = yield from open_and_deal(
        party, "masked", _to_open(inputs, outputs), [item], lambda mask: [mask_products(mask, outputs)]
    )
    made: Rows = expand(inputs, known, masks, dealt[0], outputs, party.role == "A")
    return made
