"""Magnitude and sign of one value, from the sign of its masked opening."""

from __future__ import annotations

import numpy as np

from ditto_kernels.bits.select import multiply_bits, to_arithmetic
from ditto_kernels.bits.signs import signs
from ditto_kernels.maximum.maximum import cast_error
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss


def _run_abs(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """|x| = x - 2 [x < 0] x.

    Range: x > -2^(k-1) ulp. Error: none, but that of the cast to `out`. Rounds: open, compare (1 up to ring
    16, else 2), choose, reshare. Security: x is opened under a full-width one-time mask; see `signs` and
    `multiply_bits`.
    """
    own = from_rss(party, x.reshape((x.size,)))
    opened = yield from open_masked(party, own)
    below = yield from signs(party.at("sign"), opened)
    negative = yield from multiply_bits(party.at("select"), below, opened)
    part = negative.share[0]
    joined = yield from to_rss(party, Additive(own.share - part - part, x.fxp))
    return (yield from convert(party.at("cast"), joined.reshape(x.shape), out))


def _run_sign(party: Party, x: Rss, out: Fxp) -> Protocol[Rss]:
    """1, 0 or -1 in the format `out`: 1 - [x < 0] - [x - ulp < 0].

    Range: x > -2^(k-1) ulp. Error: none. Rounds: as of `abs`. Security: both comparisons share one opening
    under a full-width one-time mask; see `signs` and `to_arithmetic`.
    """
    opened = yield from open_masked(party, from_rss(party, x.reshape((x.size,))))
    bits = yield from signs(party.at("signs"), opened, (0, -1))
    digits = yield from to_arithmetic(party.at("bits"), bits, x.size, Fxp(out.ring_bits, 0))
    one = out.dtype.type(party.role == "A")
    share = (one - digits.share[0] - digits.share[1]) << out.dtype.type(out.fraction_bits)
    return (yield from to_rss(party, Additive(share.reshape(x.shape), out)))


def _abs_error(x: Spec, out: Fxp) -> float:
    return cast_error(x.fxp, out)


def _sign_error(x: Spec, out: Fxp) -> float:
    return 0.0


_PAPER = "masked comparison as in Rabbit, ePrint 2021/119"
ABS = Kernel("abs", _run_abs, np.abs, _abs_error, _PAPER, elementwise=True)
SIGN = Kernel("sign", _run_sign, np.sign, _sign_error, _PAPER, elementwise=True)
