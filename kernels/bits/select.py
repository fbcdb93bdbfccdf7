"""Multiply shared bits by values, with the bits opened under masks whose shares the dealer deals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ditto_kernels.bits.bit_planes import Bits, unpack
from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.party import Deal, Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.sharing.open_and_deal import open_and_deal
from ditto_kernels.values.formats import Array, Fxp


@fused()
def bits_to_ring(beta: Array, rho: Array, *, leader: bool) -> Array:
    """Return a share of b = beta + (1 - 2 beta) rho."""
    one = rho.dtype.type(leader)
    return rho + beta.astype(rho.dtype) * (one - rho - rho)


@fused()
def bits_times(beta: Array, c: Array, mask: Array, rho: Array, rho_r: Array, *, leader: bool) -> Array:
    """Return a share of b (c - r) = beta (c - r) + (1 - 2 beta)(c rho - rho r)."""
    value = c - mask if leader else -mask
    other: Array = c * rho - rho_r
    return beta.astype(rho.dtype) * (value - other - other) + other


def open_bits(
    party: Party, bits: Bits, items: Sequence[Deal], make: Callable[[Array], Sequence[Array]]
) -> Protocol[tuple[Array, Array, list[Array]]]:
    """Open beta = b ^ rho and deal the values that `make` returns for the whole rho.

    Returns (beta, which A and B know; the party's share of rho; the shares of the dealt values). The dealer
    gets its whole mask. Cost: 2 bits in 1 round. Security: that of `open_and_deal`.
    """
    return (yield from open_and_deal(party, "beta", bits.words, items, make))


def to_arithmetic(party: Party, bits: Bits, size: int, fxp: Fxp) -> Protocol[Additive]:
    """Turn bits into additive shares of 0 or 1 in the ring of `fxp`.

    The result is an integer, without fraction bits, of shape (..., size). Cost per element: 2 bits online and
    k bits offline, in 1 round. Error: none. Security: beta is masked once. Source: daBits.
    """
    opened, _, dealt = yield from open_bits(
        party,
        bits,
        [Deal("rho_ring", (*bits.shape[:-1], size), fxp.dtype)],
        lambda rho: [unpack(rho, size, bits.word_bits).astype(fxp.dtype)],
    )
    beta = unpack(opened, size, bits.word_bits)
    return Additive(bits_to_ring(beta, dealt[0], leader=party.role == "A"), Fxp(fxp.ring_bits, 0))


def multiply_bits(party: Party, bits: Bits, x: Opened) -> Protocol[Additive]:
    """Return b * x for bits of shape (j, words) and one opened x: additive shares of shape (j, *x.shape).

    The result is in x's format. Cost per element and bit: 2 bits online and 2k bits offline, in 1 round.
    Error: none. Security: beta is masked once, and c = x + r was opened under a mask that only the dealer
    knows. Source: selection by daBits, with dealt [rho] and [rho r].
    """
    share = yield from _multiply(party, bits, x.c.reshape(-1), x.mask.reshape(-1), x.size)
    return Additive(share.reshape((*bits.shape[:-1], *x.shape)), x.fxp)


def multiply_each(party: Party, *pairs: tuple[Bits, Opened]) -> Protocol[list[Additive]]:
    """Return b * x for every pair, in the one round of `multiply_bits`.

    Bits have shape (words,), and all x have one shape. Few elements of one format share an opening and the
    dealt values.
    """
    bits, xs = [each for each, _ in pairs], [each for _, each in pairs]
    fxp, shape, size = xs[0].fxp, xs[0].shape, xs[0].size
    if size > tuning.JOINED_SELECTION_ELEMENTS or any(x.fxp != fxp for x in xs):
        return (
            yield from parallel(
                *(multiply_bits(party.at(f"{place}"), *pair) for place, pair in enumerate(pairs))
            )
        )
    joined = Bits(np.stack([each.words for each in bits]), bits[0].word_bits)
    c = np.stack([x.c.reshape(-1) for x in xs])
    mask = np.stack([x.mask.reshape(-1) for x in xs])
    share = yield from _multiply(party, joined, c, mask, size)
    return [Additive(each.reshape(shape), fxp) for each in share]


def _multiply(party: Party, bits: Bits, c: Array, mask: Array, size: int) -> Protocol[Array]:
    flat, dtype = (*bits.shape[:-1], size), mask.dtype
    items = [Deal("rho_ring", flat, dtype), Deal("rho_r", flat, dtype)]

    def make(rho: Array) -> tuple[Array, Array]:
        ring = unpack(rho, size, bits.word_bits).astype(dtype)
        return ring, ring * mask

    opened, _, dealt = yield from open_bits(party, bits, items, make)
    beta = unpack(opened, size, bits.word_bits)
    return bits_times(beta, c, mask, dealt[0], dealt[1], leader=party.role == "A")
