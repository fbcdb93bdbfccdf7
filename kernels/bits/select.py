"""Shared bits times values: bits are opened under masks whose arithmetic shares the dealer deals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ditto_kernels.bits.bit_planes import Bits, unpack, word_count
from ditto_kernels.protocol import cost as costs
from ditto_kernels.protocol.party import Deal, Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.sharing.open_and_deal import open_and_deal
from ditto_kernels.values.formats import Array, Fxp

_FEW = 1 << 13  # elements: of more, joining costs more passes over memory than it saves calls


def bits_to_ring(beta: Array, rho: Array, leader: bool) -> Array:
    """Share of b = beta + (1 - 2 beta) rho."""
    one = rho.dtype.type(1 if leader else 0)
    return rho + beta * (one - rho - rho)


def bits_times(beta: Array, c: Array, mask: Array, rho: Array, rho_r: Array, leader: bool) -> Array:
    """Share of b (c - r) = beta (c - r) + (1 - 2 beta)(c rho - rho r)."""
    value = c - mask if leader else -mask
    other = c * rho
    other -= rho_r
    value = value - other
    value -= other
    value *= beta
    value += other
    return value


def open_bits(
    party: Party, bits: Bits, items: Sequence[Deal], make: Callable[[Array], Sequence[Array]]
) -> Protocol[tuple[Array | None, Array, list[Any]]]:
    """(beta = b ^ rho known to A and B, own share of rho, shares of what `make` makes of the whole rho).

    The dealer gets its whole mask. 2 bits, 1 round.
    """
    like = (bits.shape, np.dtype(f"uint{bits.word_bits}"))
    return (yield from open_and_deal(party, "beta", bits.words, like, items, make))


def open_bits_cost(words: int, word_bits: int) -> costs.Cost:
    """Cost of `open_bits` over so many words in all."""
    return costs.exchanged(words, word_bits)


def to_arithmetic(party: Party, bits: Bits, size: int, fxp: Fxp) -> Protocol[Additive]:
    """Bits as additive 0 or 1 in the ring of `fxp` (an integer: fraction bits 0 are implied).

    Shapes: (..., size). Cost: 2 bits online, k bits offline an element; 1 round. Security: beta is
    one-time-masked.
    """
    shape = (*bits.shape[:-1], size)
    opened, _, dealt = yield from open_bits(
        party,
        bits,
        [Deal("rho_ring", shape, fxp.dtype)],
        lambda rho: [unpack(rho, size, bits.word_bits).astype(fxp.dtype)],
    )
    integer = Fxp(fxp.ring_bits, 0)
    if party.role == "D":
        return Additive(None, shape, integer)
    beta = unpack(opened, size, bits.word_bits).astype(fxp.dtype)
    share = bits_to_ring(beta, dealt[0], party.role == "A")
    return Additive(share, shape, integer)


def to_arithmetic_cost(size: int, ring: int, word_bits: int, count: int = 1) -> costs.Cost:
    """Cost of `to_arithmetic` for `count` bits of each of `size` elements."""
    opened = open_bits_cost(count * word_count(size, word_bits), word_bits)
    return opened + costs.dealt(count * size, ring)


def multiply_bits(party: Party, bits: Bits, x: Opened) -> Protocol[Additive]:
    """b * x for bits of shape (j, words) and one opened x: additive shares of shape (j, *x.shape).

    Formats: result in x's format. Cost: 2 bits online, 2k offline an element and bit; 1 round. Error: none.
    Security: beta is one-time-masked; c = x + r was opened under a mask the dealer alone knows whole.
    Source: daBit selection with dealt [rho], [rho r].
    """
    size = math.prod(x.shape)
    c = None if x.c is None else x.c.reshape(-1)
    product = yield from _multiply(party, bits, c, x.mask.reshape(-1), size, x.fxp)
    return product.reshape((*bits.shape[:-1], *x.shape))


def multiply_each(party: Party, *pairs: tuple[Bits, Opened]) -> Protocol[list[Additive]]:
    """b * x of every pair, bits of shape (words,), all x of one shape: `multiply_bits` in one round.

    Few elements of one format share an opening and what is dealt.
    """
    bits, xs = [each for each, _ in pairs], [each for _, each in pairs]
    if math.prod(xs[0].shape) > _FEW or any(x.fxp != xs[0].fxp for x in xs):
        return (
            yield from parallel(
                *(multiply_bits(party.at(f"{place}"), *pair) for place, pair in enumerate(pairs))
            )
        )
    shape, size = xs[0].shape, math.prod(xs[0].shape)
    words, c = None, None
    if party.role != "D":
        words = np.stack([np.asarray(each.words) for each in bits])
        c = np.stack([np.asarray(x.c).reshape(-1) for x in xs])
    joined = Bits(words, (len(pairs), *bits[0].shape), bits[0].word_bits)
    mask = np.stack([x.mask.reshape(-1) for x in xs])
    share = (yield from _multiply(party, joined, c, mask, size, xs[0].fxp)).share
    parts = [None] * len(pairs) if share is None else [each.reshape(shape) for each in share]
    return [Additive(part, shape, xs[0].fxp) for part in parts]


def _multiply(
    party: Party, bits: Bits, c: Array | None, mask: Array, size: int, fxp: Fxp
) -> Protocol[Additive]:
    flat, dtype = (*bits.shape[:-1], size), fxp.dtype
    items = [Deal("rho_ring", flat, dtype), Deal("rho_r", flat, dtype)]

    def make(rho: Array) -> tuple[Array, Array]:
        ring = unpack(rho, size, bits.word_bits).astype(dtype)
        return ring, ring * mask

    opened, _, dealt = yield from open_bits(party, bits, items, make)
    if c is None:
        return Additive(None, flat, fxp)
    beta = unpack(opened, size, bits.word_bits).astype(dtype)
    return Additive(bits_times(beta, c, mask, dealt[0], dealt[1], party.role == "A"), flat, fxp)


def multiply_bits_cost(size: int, ring: int, word_bits: int, count: int = 1) -> costs.Cost:
    """Cost of `multiply_bits` for `count` bits of each of `size` elements."""
    opened = open_bits_cost(count * word_count(size, word_bits), word_bits)
    return opened + costs.dealt(2 * count * size, ring)
