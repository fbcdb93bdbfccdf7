"""An opened value is read in ring 64 with fewer fraction bits, without a further round.

Let c = x + bias + r in ring k, with 0 <= x + bias < 2^(k-1) and r = r_A + r_B. With top = msb(r) and s =
[msb(c) = 0], which A and B see, c wraps s top times beyond the carry of r_A + r_B. So the integer x >> d is u
+ m with

    u = (c >> d) - (bias >> d),    m = 2^(k-d) s top - R,    R = (r_A >> d) + (r_B >> d) - 2^(k-d) carry.

A and B know u, and the dealer knows R and top. Products with other openings are local if products of masks
with R and with top are dealt. `casts.reshared_wrap` joins R and top for the price of a round. Range and
error: those of a truncation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ditto_kernels.sharing.casts import carry_and_top
from ditto_kernels.values.formats import Array, container_bits, signed, unsigned

_WIDE = 64


@dataclass(frozen=True)
class Lift:
    """A lift from a ring of `ring` bits, with `dropped` fraction bits dropped."""

    ring: int
    dropped: int = 0

    @property
    def wraps_at(self) -> int:
        """The exponent of the power of two at which the value wraps.

        At 64 wraps do not matter, and none are dealt.
        """
        return self.ring - self.dropped

    @property
    def wraps(self) -> bool:
        return self.wraps_at < _WIDE

    @property
    def container_bits(self) -> int:
        """The ring that holds a multiple of 2^wraps_at modulo 2^64."""
        return container_bits(max(1, _WIDE - self.wraps_at))

    @property
    def container(self) -> np.dtype[Any]:
        return signed(self.container_bits)

    @property
    def bias(self) -> int:
        """The number that is added before masking. It also centres the rounding error."""
        return (1 << (self.ring - 2)) - ((1 << self.dropped) >> 1)

    def wrapped(self, multiples: Array) -> Array:
        """Return multiples of 2^wraps_at in ring 64."""
        return multiples.astype(np.int64) << np.int64(self.wraps_at)


def _shifted(value: Array, bits: int) -> Array:
    word = value.view(unsigned(8 * value.dtype.itemsize))
    return (word >> word.dtype.type(bits) if bits else word).astype(np.int64)


def open_part(c: Array, lift: Lift) -> Array:
    """Return u, in ring 64."""
    part = _shifted(c, lift.dropped)
    part -= np.int64((1 << (lift.ring - 2)) >> lift.dropped)
    return part


def mask_part(mask: Array, lift: Lift, wraps: Array) -> Array:
    """Return A's or B's share of m.

    It comes from the party's half of r and its share of carry + s top, which matters only if the lift wraps.
    """
    part = lift.wrapped(wraps) if lift.wraps else np.zeros(mask.shape, np.int64)
    part -= _shifted(mask, lift.dropped)
    return part


def dealers_part(first: Array, second: Array, lift: Lift) -> tuple[Array, Array, Array]:
    """Return the dealer's (R in ring 64, carry, top), from A's and B's halves of r."""
    carry, top = carry_and_top(first, second, width=lift.container_bits)
    inner = _shifted(first, lift.dropped)
    inner += _shifted(second, lift.dropped)
    if lift.wraps:
        inner -= lift.wrapped(carry)
    return inner, carry, top
