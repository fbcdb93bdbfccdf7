"""Compute x/2 from the opening of x, as additive shares in ring 32, for the linear part of a series.

Over the integers, x = c - r_A - r_B + 2^k w with w in {0, 1, 2}. The half has `lift` more bits, so that 2^k w
counts only modulo 2^32. In rings 32 and 64 it does not count at all, and in ring 16 only its parity counts.
With a bias that makes x + bias positive, w = carry(r_A + r_B) + (1 - msb c) msb(r). The dealer deals both
bits by XOR.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Deal, Party
from ditto_kernels.sharing.additive import Opened
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, signed, unsigned

_RING = 32
_NARROW = 16
_BIAS = 1 << (_NARROW - 2)


def _bytes(size: int) -> int:
    return -(-size // 8)


def wrap_items(x: Opened) -> list[Deal]:
    """Return the items that the dealer deals: two packed bits per element in ring 16, else none."""
    if x.fxp.ring_bits >= _RING:
        return []
    return [Deal("wraps", (2, _bytes(x.size)), unsigned(8), xor=True)]


def wrap_values(x: Opened) -> list[Array]:
    """Return the dealer's values of `wrap_items`: the carry of r_A + r_B, and msb of r."""
    if x.fxp.ring_bits >= _RING:
        return []
    assert x.first is not None
    r, first = x.mask.reshape(-1), x.first.reshape(-1)
    carry = r.view(unsigned(_NARROW)) < first.view(unsigned(_NARROW))
    return [np.packbits(np.stack([carry, r < 0]), axis=1)]


def half(party: Party, x: Opened, wraps: Sequence[Array], scale: int) -> Array:
    """Return a share of x/2 in ring 32, with `scale` fraction bits. `wraps` are the shares of `wrap_items`.

    Range: in ring 16, |x| < 2^14 ulp (a quarter of the ring), and scale = fraction bits + 16. Raises
    ValueError for another scale in ring 16. Error: none, or 2 ulp of the result if it has fewer fraction bits
    than x/2. Cost: 2 bits offline in ring 16, and no round.

    Security: the computation is local. It uses only two dealt bits, which depend on r alone.

    Source: own. The wrap is that of `casts.reshared_wrap`.
    """
    lift = scale - x.fxp.fraction_bits - 1
    if wraps and x.fxp.ring_bits + lift != _RING - 1:
        raise ValueError(
            f"half of {x.fxp} with {scale} fraction bits: choose {x.fxp.fraction_bits + _NARROW}"
        )
    if wraps:
        return _wrapped_half(x.c, x.mask, wraps[0], lift, party.role == "A")
    return _plain_half(x.c, x.mask, lift, party.role == "A")


@local_step(lambda c, *_: absent(c.shape, signed(_RING)))
def _plain_half(c: Array, mask: Array, lift: int, leader: bool) -> Array:
    share = c - mask if leader else -mask
    share = share >> -lift if lift < 0 else share
    return np.left_shift(share.astype(np.int32), max(lift, 0))


@local_step(lambda c, *_: absent(c.shape, signed(_RING)))
def _wrapped_half(c: Array, mask: Array, wraps: Array, lift: int, leader: bool) -> Array:
    biased = c + c.dtype.type(_BIAS)
    parity = wraps[0] ^ (wraps[1] & np.packbits(biased.reshape(-1) >= 0))
    odd = np.unpackbits(parity, count=c.size).reshape(c.shape)
    made: Array = _lifted_half(biased, mask, odd, lift=lift, leader=leader)
    return made


@fused()
def _lifted_half(biased: Array, mask: Array, odd: Array, *, lift: int, leader: bool) -> Array:
    share = (odd.astype(np.int32) << _NARROW) - mask.view(unsigned(_NARROW)).astype(np.int32)
    if leader:
        share = share + biased.view(unsigned(_NARROW)).astype(np.int32) - np.int32(_BIAS)
    return share << lift
