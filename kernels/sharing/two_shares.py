"""Two shares wrap if either of them has its highest bit set, which is one product of two bits.

Let x = x_A + x_B - 2^k v with 0 <= x < 2^(k-1), and let a and b be the highest bits of x_A and x_B. If both
are 0, the sum stays below 2^k and v = 0. If both are 1, it reaches 2^k and v = 1. If one is 1, the sum is at
least 2^(k-1), so that x < 2^(k-1) asks for v = 1. Hence v = a + b - ab.

A knows a and B knows b. They exchange a' = a ^ m_A and b' = b ^ m_B, and the dealer deals the product of both
masks in the ring that v needs. Nothing else is opened, so that shares change their ring or lose bits for the
price of that product and of a reshare. That one product of highest bits gives the wrap is in SIRNN (ePrint
2021/459), where it takes an oblivious transfer. The dealt product is our own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, exchange
from ditto_kernels.sharing.additive import Additive, replicate
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, container_bits, signed, unsigned
from ditto_kernels.values.replicated import Rss

_BYTE = np.dtype(np.uint8)


class HighBits(NamedTuple):
    """What A or B knows about the highest bits of both shares. All of it is absent at the dealer.

    own, other: a' and b' as bytes, from the party's point of view. product: its share of m_A m_B.
    """

    own: Array
    other: Array
    product: Array


@local_step(lambda share: absent((-(-math.prod(share.shape) // 8),), _BYTE))
def _packed(share: Array) -> Array:
    return np.packbits(share.reshape(-1) < 0)


@local_step(lambda packed, shape: absent(shape, _BYTE))
def _unpacked(packed: Array, shape: tuple[int, ...]) -> Array:
    return np.unpackbits(packed, count=math.prod(shape)).reshape(shape)


def open_high_bits(party: Party, share: Array, width: int) -> Protocol[HighBits]:
    """Exchange the highest bits of two shares under masks, with their product dealt in ring `width`.

    Cost: 2 bits online and `width` bits offline, in 1 round. Security: A lacks m_B and B lacks m_A, each of
    which serves once. The dealer receives nothing.
    """
    shape, packed = tuple(share.shape), (-(-math.prod(share.shape) // 8),)
    items = [Deal("both", shape, signed(width))]
    if party.role == "D":
        first, second = party.draw_to_deal("high", packed, _BYTE)
        yield from deal(party, items, lambda: [_unpacked(first & second, shape).astype(signed(width))])
        nothing = absent(shape, _BYTE)
        yield from exchange(party, "high", absent(packed, _BYTE))
        return HighBits(nothing, nothing, absent(shape, signed(width)))
    (product,) = yield from deal(party, items, list)
    mine = _packed(share) ^ party.draw_with_dealer("high", packed, _BYTE)
    other = yield from exchange(party, "high", mine)
    return HighBits(_unpacked(mine, shape), _unpacked(other, shape), product)


def _wrap(share: Array, own: Array, other: Array, product: Array, leader: bool) -> Array:
    """Return a party's share of v = a + b - ab.

    With b = b' + (1 - 2b') m_B and the same for a, the shares are a (1 - b') - s p_A at A and b (1 - a') + a'
    b' - s p_B at B, where s = (1 - 2a')(1 - 2b') and p_A + p_B = m_A m_B.
    """
    mine, theirs = own.astype(product.dtype), other.astype(product.dtype)
    both, top = mine * theirs, (share < 0).astype(product.dtype)
    differ = mine + theirs - both - both
    wrap = top - top * theirs - product + (differ + differ) * product
    return wrap if leader else wrap + both


@fused()
def _lifted(
    share: Array,
    own: Array,
    other: Array,
    product: Array,
    less: Array,
    bias: Array,
    *,
    ring: int,
    target: int,
    leader: bool,
) -> Array:
    """Return a party's share in the larger ring, less the bias and another number."""
    wrap = _wrap(share, own, other, product, leader).astype(signed(target))
    return share.view(unsigned(ring)).astype(signed(target)) - (wrap << ring) - less - bias


@fused()
def _truncated(
    share: Array,
    own: Array,
    other: Array,
    product: Array,
    less: Array,
    bias: Array,
    *,
    ring: int,
    bits: int,
    leader: bool,
) -> Array:
    """Return a party's share without its low bits, less the bias and another number."""
    wrap = _wrap(share, own, other, product, leader).astype(share.dtype)
    shifted = (share.view(unsigned(ring)) >> bits).view(share.dtype)
    if leader:  # A rounds up and B rounds down.
        shifted = shifted + ((share & ((1 << bits) - 1)) != 0).astype(share.dtype)
    return shifted - (wrap << (ring - bits)) - less - bias


def _of_leader(party: Party, bias: int, ring: int) -> Array:
    return np.asarray(bias if party.role == "A" else 0).astype(signed(ring))


def _lift(party: Party, x: Additive, ring: int, bias: int, less: Array) -> Protocol[Array]:
    """Return A's or B's share of x in the larger ring, less a number. It is absent at the dealer."""
    source = x.fxp.ring_bits
    share = x.share + x.fxp.dtype.type(bias) if party.role == "A" else x.share
    high = yield from open_high_bits(party, share, container_bits(ring - source))
    if party.role == "D":
        return absent(x.shape, signed(ring))
    minus = _of_leader(party, bias, ring)
    made: Array = _lifted(share, *high, less, minus, ring=source, target=ring, leader=party.role == "A")
    return made


def _truncate(party: Party, x: Additive, bits: int, less: Array) -> Protocol[Array]:
    """Return A's or B's share of x / 2^bits, less a number. It is absent at the dealer."""
    ring, bias = x.fxp.ring_bits, 1 << (x.fxp.ring_bits - 2)
    share = x.share + x.fxp.dtype.type(bias) if party.role == "A" else x.share
    high = yield from open_high_bits(party, share, container_bits(bits))
    if party.role == "D":
        return absent(x.shape, x.fxp.dtype)
    minus = _of_leader(party, bias >> bits, ring)
    made: Array = _truncated(share, *high, less, minus, ring=ring, bits=bits, leader=party.role == "A")
    return made


def lift_shares(party: Party, x: Additive, ring: int, bias: int) -> Protocol[Additive]:
    """Bring a 2-of-2 sharing into a larger ring, and leave it a 2-of-2 sharing.

    Range: 0 <= x + bias < 2^(k-1) as ring element. Error: none. Cost: 2 + w bits, with w the container of
    (target - k) bits, in 1 round. Security: that of `open_high_bits`. Source: see above.
    """
    nothing = np.zeros((), signed(ring))
    return Additive((yield from _lift(party, x, ring, bias, nothing)), Fxp(ring, x.fxp.fraction_bits))


def lift_to_rss(party: Party, x: Additive, ring: int, bias: int) -> Protocol[Rss]:
    """Do `lift_shares` and `to_rss`. The shares lose their new components in the same pass."""
    fxp = Fxp(ring, x.fxp.fraction_bits)
    pad = _pad(party, x.shape, fxp)
    return (yield from replicate(party, pad, (yield from _lift(party, x, ring, bias, pad)), fxp))


def truncate_to_rss(party: Party, x: Additive, bits: int) -> Protocol[Rss]:
    """Compute x / 2^bits of a 2-of-2 sharing in the same ring, as replicated shares.

    Range: |x| < 2^(k-2) as ring element. Error: less than 1 ulp of the result, with mean 0, and none for a
    multiple of 2^bits, because A rounds up what B rounds down. Cost: 2k + w + 2 bits, with w the container of
    `bits`, in 2 rounds. Security: that of `open_high_bits` and `to_rss`. Source: see above.
    """
    fxp = Fxp(x.fxp.ring_bits, x.fxp.fraction_bits - bits)
    pad = _pad(party, x.shape, fxp)
    return (yield from replicate(party, pad, (yield from _truncate(party, x, bits, pad)), fxp))


def _pad(party: Party, shape: tuple[int, ...], fxp: Fxp) -> Array:
    """Draw the new component of A or B. The dealer draws both later."""
    if party.role == "D":
        return absent(shape, fxp.dtype)
    return party.draw_with_dealer("reshare", shape, fxp.dtype)
