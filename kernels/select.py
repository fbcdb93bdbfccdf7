"""Shared bits times values: bits are opened under masks whose arithmetic shares the dealer deals."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditto_kernels import cost as costs
from ditto_kernels.additive import Additive, Opened
from ditto_kernels.boolean import Bits, unpack, word_count
from ditto_kernels.party import Deal, Party, Protocol, deal, exchange
from ditto_kernels.ring import Array, Fxp


@partial(jax.jit, static_argnames=("size", "word_bits", "dtype"))
def _dealer_terms(masks: Array, r: Array, size: int, word_bits: int, dtype: Any) -> tuple[Array, Array]:
    bits = unpack(masks, size, word_bits).astype(dtype)
    return bits, bits * r


@partial(jax.jit, static_argnames=("size", "word_bits", "leader"))
def _bits_to_ring(opened: Array, rho: Array, size: int, word_bits: int, leader: bool) -> Array:
    """Share of b = beta + (1 - 2 beta) rho."""
    beta = unpack(opened, size, word_bits).astype(rho.dtype)
    return (beta if leader else 0) + (1 - 2 * beta) * rho


@partial(jax.jit, static_argnames=("size", "word_bits", "leader"))
def _bits_times(
    opened: Array, c: Array, mask: Array, rho: Array, rho_r: Array, size: int, word_bits: int, leader: bool
) -> Array:
    """Share of b (c - r) = beta (c - r) + (1 - 2 beta)(c rho - rho r)."""
    beta = unpack(opened, size, word_bits).astype(rho.dtype)
    value = (c if leader else 0) - mask
    return beta * value + (1 - 2 * beta) * (c * rho - rho_r)


def open_bits(party: Party, bits: Bits) -> Protocol[tuple[Array | None, Array]]:
    """(beta = b ^ rho known to A and B, rho: own XOR share, or the dealer's whole mask). 2 bits, 1 round."""
    dtype = np.dtype(f"uint{bits.word_bits}")
    if party.role == "D":
        first, second = party.draw_both("rho", bits.shape, dtype)
        yield from exchange(party, "beta", None, (bits.shape, dtype))
        return None, first ^ second
    mask = party.draw_with_dealer("rho", bits.shape, dtype)
    mine = bits.words ^ mask
    other = yield from exchange(party, "beta", mine, (bits.shape, dtype))
    return mine ^ other, mask


def open_bits_cost(words: int, word_bits: int) -> costs.Cost:
    """Cost of `open_bits` over so many words in all."""
    return costs.exchanged(words, word_bits)


def to_arithmetic(party: Party, bits: Bits, size: int, fxp: Fxp) -> Protocol[Additive]:
    """Bits as additive 0 or 1 in the ring of `fxp` (an integer: fraction bits 0 are implied).

    Shapes: (..., size). Cost: 2 bits online, k bits offline an element; 1 round. Security: beta is
    one-time-masked.
    """
    opened, rho = yield from open_bits(party, bits)
    shape = (*bits.shape[:-1], size)
    items = [Deal("rho_ring", shape, fxp.dtype)]
    dealt = yield from deal(
        party, items, lambda: [np.asarray(unpack(rho, size, bits.word_bits)).astype(fxp.dtype)]
    )
    integer = Fxp(fxp.ring_bits, 0)
    if party.role == "D":
        return Additive(None, shape, integer)
    share = _bits_to_ring(opened, dealt[0], size, bits.word_bits, party.role == "A")
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
    opened, rho = yield from open_bits(party, bits)
    size = math.prod(x.shape)
    flat = (*bits.shape[:-1], size)
    shape = (*bits.shape[:-1], *x.shape)
    items = [Deal("rho_ring", flat, x.fxp.dtype), Deal("rho_r", flat, x.fxp.dtype)]
    dealt = yield from deal(
        party,
        items,
        lambda: _dealer_terms(rho, np.asarray(x.mask).reshape(-1), size, bits.word_bits, x.fxp.dtype),
    )
    if party.role == "D":
        return Additive(None, shape, x.fxp)
    share = _bits_times(
        opened,
        jnp.asarray(x.c).reshape(-1),
        jnp.asarray(x.mask).reshape(-1),
        dealt[0],
        dealt[1],
        size,
        bits.word_bits,
        party.role == "A",
    )
    return Additive(share.reshape(shape), shape, x.fxp)


def multiply_bits_cost(size: int, ring: int, word_bits: int, count: int = 1) -> costs.Cost:
    """Cost of `multiply_bits` for `count` bits of each of `size` elements."""
    opened = open_bits_cost(count * word_count(size, word_bits), word_bits)
    return opened + costs.dealt(2 * count * size, ring)
