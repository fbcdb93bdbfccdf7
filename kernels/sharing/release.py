"""Releasing turns 2-of-2 shares into replicated ones in any format.

A larger ring costs no separate reshare.
"""

from __future__ import annotations

import math

from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, to_rss
from ditto_kernels.sharing.casts import convert, upcast
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss


def _shifted(x: Additive, bits: int) -> Additive:
    return Additive(x.share << x.fxp.dtype.type(bits), Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + bits))


def release(party: Party, x: Additive, out: Fxp, minimum: float) -> Protocol[Rss]:
    """Turn 2-of-2 shares into replicated ones in `out`. A larger ring costs no separate reshare.

    Range: minimum <= x, and x - minimum < half of x's ring. Error: 1.5 ulp of `out` if fraction bits are
    dropped, else none. Security: that of `to_rss` and `upcast`.
    """
    source = x.fxp
    if out.ring_bits > source.ring_bits:
        bias = math.ceil(-minimum * 2.0**source.fraction_bits) + 4
        wide = yield from upcast(party.at("upcast"), x, out.ring_bits, bias)
        return (yield from convert(party.at("convert"), wide, out))
    if out.ring_bits == source.ring_bits and out.fraction_bits >= source.fraction_bits:
        return (yield from to_rss(party, _shifted(x, out.fraction_bits - source.fraction_bits)))
    shared = yield from to_rss(party, x)
    return (yield from convert(party.at("convert"), shared, out))
