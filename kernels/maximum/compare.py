"""Comparisons of two values: a shared boolean that is 0 or 1, in any ring."""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_kernels.bits.bit_planes import Bits
from ditto_kernels.bits.select import to_arithmetic
from ditto_kernels.bits.signs import complement, signs, zeros
from ditto_kernels.maximum.operands import joint_format, operand
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, open_masked, to_rss
from ditto_kernels.sharing.casts import downcast
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

DIRECTIONS: dict[str, Any] = {
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "EQ": np.equal,
    "NE": np.not_equal,
}
_SWAPPED = ("GT", "LE")  # they compare y with x
_NEGATED = ("GE", "LE", "NE")


def _bits(party: Party, difference: Additive, direction: str) -> Protocol[Bits]:
    opened = yield from open_masked(party, difference)
    decide = zeros if direction in ("EQ", "NE") else signs
    bits = yield from decide(party.at("decided"), opened)
    return complement(party, bits) if direction in _NEGATED else bits


def _run(
    party: Party, x: Rss | Array, y: Rss | Array, out: Fxp, direction: str = "LT", ring: int | None = None
) -> Protocol[Rss]:
    """[x < y], or another of the `DIRECTIONS`: 0 or 1 in the format `out`, with numpy broadcasting.

    Formats: shared operands have one format. A public operand is rounded to its grid, and it is moved to the
    ends of half the range of the format if it lies beyond them. `ring`: a smaller ring that holds the
    difference, such as ring 8 for booleans. Range: |x - y| < 2^(k-1) ulp; with a public operand outside of
    half the range also |x| <= 2^(k-2) ulp. EQ and NE serve every x and y. Error: none. Rounds: an opening,
    the comparison (1 up to ring 16, else 2), 1 to make the bit arithmetic, 1 to reshare it. Security: the
    difference is opened under a full-width one-time mask; see `signs`, `zeros` and `to_arithmetic`.
    Source: masked comparison as in Rabbit, ePrint 2021/119.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"there is no comparison '{direction}'")
    fxp, shape = joint_format(x, y), np.broadcast_shapes(x.shape, y.shape)
    if ring is not None and ring < fxp.ring_bits:
        fxp = Fxp(ring, fxp.fraction_bits)
        x, y = (downcast(party, each, fxp) if isinstance(each, Rss) else each for each in (x, y))
    left, right = (operand(party, each, fxp, shape, saturated=True).share for each in (x, y))
    difference = Additive(right - left if direction in _SWAPPED else left - right, fxp)
    bits = yield from _bits(party.at("difference"), difference.reshape((difference.size,)), direction)
    digits = yield from to_arithmetic(party.at("bits"), bits, difference.size, Fxp(out.ring_bits, 0))
    share = digits.share.reshape(shape)
    return (yield from to_rss(party, Additive(share << out.dtype.type(out.fraction_bits), out)))


def _reference(x: Array, y: Array, direction: str = "LT", ring: int | None = None) -> Any:
    return DIRECTIONS[direction](x, y)


def _error(*_: Spec, out: Fxp, direction: str = "LT", ring: int | None = None) -> float:
    return 0.0


COMPARE = Kernel(
    "compare",
    _run,
    _reference,
    _error,
    "masked comparison as in Rabbit, ePrint 2021/119",
    elementwise=True,
)
