"""A product that leaves its ring comes back shifted by wraps: say how these show, and count them.

The short product of a guard drops some bits of one operand, so that the ring holds more of it than of the
product itself. An element that wrapped then shifts the difference between both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ditto_kernels.guard.top_bits import LIMBS, parities
from ditto_kernels.products.multiply import how_to_finish, symmetric, zero_share
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.sharing.casts import narrow, narrowing_bias
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

SEEN = 7  # wraps are counted modulo 2^7
WRAPS = Fxp(16, 16 - SEEN)  # the format of a number of wraps


@dataclass(frozen=True)
class Shown:
    """How the wraps of a product show. All bits are those of the product before its truncation.

    ring: the ring of the product.
    lacks: the fraction bits that the result has less than the product.
    unit: a wrap shifts the result by multiples of 2^unit.
    shift: the bits by which one operand is dropped.
    lifted: whether the result lies in a ring that holds no wraps, so that its elements are lifted first.
    bound: the magnitude in ulp from which on a result that is lifted is refused.
    """

    ring: int
    lacks: int
    unit: int
    shift: int
    lifted: bool
    bound: float

    @property
    def rise(self) -> int:
        """The bits by which the result rises to meet the short product."""
        return self.lacks - self.shift

    @property
    def low(self) -> int:
        """The bits below those of `WRAPS`, in a difference of short product and result."""
        return self.unit - self.shift - WRAPS.fraction_bits


@lru_cache(maxsize=256)
def shown(
    ring: int,
    bits: int,
    out: Fxp,
    range: float | None = None,
    double: bool = False,
    within: float | None = None,
) -> Shown | None:
    """Return how the wraps of a product with so many fraction bits show in `out`, or None if they do not.

    range: the declared range of the result. double: whether twice the product is computed (`doubles`).
    within: the magnitude from which on a result in a narrower ring is refused, or None for its whole format.
    """
    try:
        kind = how_to_finish(ring, bits + double, out, symmetric(range)).kind
    except ValueError:  # the product is finished in another format and cast from there
        return None
    lacks = bits - out.fraction_bits
    unit = {"narrow": out.ring_bits + lacks, "lift": 16 + lacks, "truncate": ring - double}.get(kind, 0)
    shift = max(0, SEEN - (ring - unit))
    if lacks < shift or unit - shift < WRAPS.fraction_bits:  # also where no bit is dropped
        return None
    bound = min(out.limit, out.limit if within is None else within) / out.ulp
    return Shown(ring, lacks, unit, shift, kind == "narrow", bound)


def raised(total: Array, how: Shown) -> Array:
    """Return sums of results in the bits of the short product."""
    return total << total.dtype.type(how.rise)


class Found(NamedTuple):
    """What a party finds of watched values, before the parties open or reshare it.

    counts: 3-of-3 shares of numbers of wraps in `WRAPS`, in one dimension.
    outside: XOR shares at A and B of bits that are set for values out of range, packed in bytes.
    """

    counts: Array
    outside: Sequence[Array] = ()


def counted(party: Party, sums: Sequence[tuple[Array, int]]) -> Array:
    """Return sums in units of 2^9 once their lowest bits are dropped, modulo 2^7, in one dimension.

    sums: this party's 3-of-3 shares, and how many bits are dropped.
    """
    alike: dict[tuple[Any, int], list[Array]] = {}
    for share, low in sums:
        alike.setdefault((share.dtype, low), []).append(share.reshape(-1))
    parts = []
    for (_, low), shares in alike.items():
        bias = narrowing_bias(low) if party.rank == 0 else 0
        whole = np.concatenate(shares) if len(shares) > 1 else shares[0]
        parts.append(narrow(whole, low, WRAPS.ring_bits, bias) if low else whole.astype(WRAPS.dtype))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def reshared(party: Party, found: Sequence[Found]) -> Protocol[Rss]:
    """Return the counts as replicated shares, and behind them the numbers of `parities` of all bits.

    Cost: 48 bits a number, in 1 round. Security: the shares leave under a zero share.
    """
    outside = [bits for each in found for bits in each.outside]
    near = parities(party, np.concatenate(outside)) if outside else np.zeros(LIMBS, WRAPS.dtype)
    mine = np.concatenate([*(each.counts for each in found), near])
    mine = mine + zero_share(party, "zero", mine.shape, WRAPS.ring_bits)
    (following,) = yield Round(
        (party.send((party.rank - 1) % 3, "reshare", mine),),
        (party.expect((party.rank + 1) % 3, "reshare", mine.shape, WRAPS.dtype),),
    )
    return Rss(mine, following, WRAPS)
