"""The quadratic of MPCFormer and Ditto takes the place of GeLU and costs one square."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from ditto_kernels.products.multiply import finish
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


def _work(x: Fxp) -> Fxp:
    """Return the format in which a quadratic is computed: ring 32 only where squares up to 1000 fit it."""
    ring = 32 if x.ring_bits <= 32 and 2 * x.fraction_bits <= 20 else 64
    return Fxp(max(ring, x.ring_bits), x.fraction_bits)


def _quadratic_result(x: Fxp, out: Fxp) -> Fxp:
    """Return the format of the finished product.

    It is `out` if a local shift leads there, else a format of the product's own ring.
    """
    ring, fraction = _work(x).ring_bits, 2 * x.fraction_bits + 3
    kept = min(out.fraction_bits, fraction)
    narrow = out.ring_bits <= ring - (fraction - kept) and kept == out.fraction_bits
    return out if narrow else Fxp(ring, kept)


@local_step(lambda mine, *_: absent(mine.shape, mine.dtype))
def _shared_square(mine: Array, following: Array, bits: int, constant: int) -> Array:
    return np.asarray(_square(mine, following, bits, constant))


@partial(jax.jit, static_argnames=("bits", "constant"))
def _square(mine: Array, following: Array, bits: int, constant: int) -> Array:
    """Return a 3-of-3 share of x^2 + 2^bits x + constant."""
    return mine * (mine + (following << 1)) + (mine << bits) + np.asarray(constant, mine.dtype)


def quadratic(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """Compute x^2/8 + x/4 + 1/2 as one product of x + 1 with itself.

    The product is read with three more fraction bits, which divides it by 8.

    Range: (x + 1)^2 + 3 < 2^(k - 2 - 2f), where k is 32 for up to 10 fraction bits (|x| < 30 at 10, and 127
    at 8) and 64 above. An operand of a smaller ring is cast up first, which needs |x| < limit / 2. Error: 1.5
    ulp of `out`. Rounds: 2 with a truncation or 1 into a smaller ring, and 2 more for the cast.

    Security: as for `finish` and `convert`. Source: MPCFormer (arXiv 2211.01452), Ditto (arXiv 2405.05525).
    """
    wide = yield from convert(party.at("widen"), x, _work(x.fxp))
    fraction = x.fxp.fraction_bits
    z = _shared_square(wide.mine, wide.next, fraction + 1, 4 << (2 * fraction) if party.rank == 0 else 0)
    result = yield from finish(party.at("square"), z, 2 * fraction + 3, _quadratic_result(x.fxp, out))
    return (yield from convert(party.at("out"), result, out))
