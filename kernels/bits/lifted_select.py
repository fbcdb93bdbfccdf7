"""Multiply shared bits by opened values, with the products in a larger ring: that takes no round more.

`select` leaves a product in the ring of the value, and an upcast of it would open it once more. But the value
was opened already. If c = x + bias + r with 0 <= x + bias < 2^(k-1), the integer x is c - bias - r + 2^k wrap
with wrap = s msb(r), where s = [msb(c) = 0] is known to A and B (`casts`). So b x is local in the larger
ring, once the bit is opened under a mask and the dealer has dealt its products with r and msb(r).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ditto_kernels.bits.bit_planes import Bits, unpack
from ditto_kernels.bits.select import open_bits
from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol.party import Deal, Party, Protocol
from ditto_kernels.sharing.additive import Additive, Opened
from ditto_kernels.sharing.casts import carry_and_top
from ditto_kernels.values.formats import Array, Fxp, container_bits, signed, unsigned


class Choice(NamedTuple):
    """A value, shared bits (words,) that choose it or 0, and the number that makes chosen values positive."""

    bits: Bits
    x: Opened
    bias: int


def multiply_lifted(party: Party, choices: Sequence[Choice], ring: int) -> Protocol[list[Additive]]:
    """Return b * x of every choice in the larger ring. All values have one shape and one format.

    Range: 0 <= x + bias < 2^(k-1) as ring element wherever b = 1; any x elsewhere. Error: none. Rounds: 1.
    Cost for each element and choice: 2 bits online, and offline 2 l + 3 w bits for a ring of l bits and the
    container w of l - k bits. Security: bits are opened under one-time masks; x was opened under a mask that
    only the dealer knows; all that is dealt depends on masks. Source: own, of the parts named above.
    """
    (source, size, shape), wide = (choices[0].x.fxp, choices[0].x.size, choices[0].x.shape), signed(ring)
    narrow = signed(container_bits(ring - source.ring_bits))
    bits = Bits(np.stack([each.bits.words for each in choices]), choices[0].bits.word_bits)
    mask = np.stack([each.x.mask.reshape(-1) for each in choices])
    firsts = [each.x.first for each in choices]
    flat = (len(choices), size)
    items = [Deal("rho", flat, wide), Deal("rho_r", flat, wide)]
    items += [Deal(name, flat, narrow) for name in ("rho_top", "carry", "top")]

    def make(rho: Array) -> tuple[Array, ...]:
        first = np.stack([each.reshape(-1) for each in firsts if each is not None])
        flags = unpack(rho, size, bits.word_bits)
        carry, top = carry_and_top(first, mask - first, width=8 * narrow.itemsize)
        chosen = flags.astype(wide)
        return chosen, chosen * _whole(mask, ring=ring), flags.astype(narrow) * top, carry, top

    opened, _, dealt = yield from open_bits(party, bits, items, make)
    beta = unpack(opened, size, bits.word_bits)
    compute = partial(_chosen, ring=ring, leader=party.role == "A")
    fxp, shares = Fxp(ring, source.fraction_bits), []
    for place, (_, x, bias) in enumerate(choices):
        step, moved = source.dtype.type(bias), np.asarray(bias, wide)
        c, parts = x.c.reshape(-1) + step, [each[place] for each in dealt]
        share: Array = compute(beta[place], c, mask[place], moved, *parts)
        shares.append(Additive(share.reshape(shape), fxp))
    return shares


@fused()
def _whole(mask: Array, *, ring: int) -> Array:
    return mask.view(unsigned(8 * mask.dtype.itemsize)).astype(signed(ring))


@fused()
def _chosen(
    beta: Array,
    c: Array,
    mask: Array,
    bias: Array,
    rho: Array,
    rho_r: Array,
    rho_top: Array,
    carry: Array,
    top: Array,
    *,
    ring: int,
    leader: bool,
) -> Array:
    """Return a share of b x = beta x + (1 - 2 beta) rho x, where x = value - r + 2^k s top."""
    source, wide = 8 * c.dtype.itemsize, signed(ring)
    sees = (c >= 0).astype(top.dtype)
    value = _whole.plain(c, ring=ring) - bias
    lost = ((carry + sees * top).astype(wide) << source) - _whole.plain(mask, ring=ring)
    own = value + lost if leader else lost
    other: Array = rho * value - rho_r + ((sees * rho_top).astype(wide) << source)
    return beta.astype(wide) * (own - other - other) + other
