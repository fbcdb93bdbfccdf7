"""Hold the parts that elementwise products and products of matrices share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.op import Call, Choice, Chooser, Formats
from ditto_spu.ops.public_operands import largest
from ditto_spu.plan.plan import Attributes

_LAYOUT = tuple(f"stablehlo.{each}" for each in ("reshape", "transpose", "broadcast_in_dim", "slice"))
_PRODUCTS = ("stablehlo.multiply", "stablehlo.dot_general")
# Fraction bits that two factors may have beyond the default's. An argument that a root reads, too, may have
# more, and its products would have no room.
_MORE_BITS = 6
SCALED_BITS = 22  # fraction bits of a value that a constant scales, where what reads the result wants more
_MOST_BITS = 27  # fraction bits of such a result, so that two of them leave their product room
_MOST_BITS_ALONE = 31  # the same, where only products with public values read it


def secret_factors(
    chooser: Chooser, op: ir.Op, choice: Choice, wishes: Mapping[ir.Value, Fxp]
) -> dict[ir.Value, Fxp]:
    """Return the formats of the secret factors among the two.

    A rule about operands holds for the left factor.
    """
    formats: dict[ir.Value, Fxp] = {}
    for value in tuple(op.operands)[:2]:
        if chooser.is_secret(value):
            settled = chooser.settle(value, wishes[value])
            if value not in formats:
                asked = choice.operand if value == op.operands[0] and not chooser.is_binary(value) else None
                formats[value] = asked or settled
    bits = sum(formats[each].fraction_bits for each in tuple(op.operands)[:2] if each in formats)
    least = chooser.default_format
    if choice.operand is None and len(formats) and bits > 2 * least.fraction_bits + _MORE_BITS:
        for value, fxp in formats.items():
            if _source(value) is None and fxp.ring_bits == least.ring_bits == 64:
                formats[value] = Fxp(64, min(fxp.fraction_bits, least.fraction_bits))
    return formats


def _source(value: ir.Value) -> ir.Op | None:
    """Return the operation whose result, only rearranged, is the value, or None for an argument."""
    maker = ir.define(value)
    while maker is not None and maker.name in _LAYOUT:
        maker = ir.define(maker.operands[0])
    return maker


def in_ring(formats: Mapping[ir.Value, Fxp], ring_bits: int) -> dict[ir.Value, Fxp]:
    """Return formats with the same fraction bits in another ring."""
    return {value: Fxp(ring_bits, fxp.fraction_bits) for value, fxp in formats.items()}


def truncated(
    operands: Mapping[ir.Value, Fxp], natural: Fxp, default: Fxp, most: int, factor: Fxp | None = None
) -> Formats:
    """Return the formats of a product in `default`, or in the nearest format that truncation can reach.

    most: the largest number of fraction bits of the result.
    """
    ring, dropped = natural.ring_bits, natural.fraction_bits - default.fraction_bits
    target = default if default.ring_bits <= ring - dropped else Fxp(ring, default.fraction_bits)
    target = Fxp(target.ring_bits, min(target.fraction_bits, most))
    return Formats(operands, target, natural, factor)


def declared_range(call: Call) -> Attributes:
    """Return the range that a rule declares for the result. It lets a product take a cheaper form."""
    declared = call.decision.range
    return () if declared is None else (("range", declared),)


def is_sum(value: ir.Value) -> bool:
    """Tell whether a value is a sum over dimensions, perhaps rearranged, and so has fewer elements."""
    maker = _source(value)
    return maker is not None and maker.name == "stablehlo.reduce"


def zeros_below_one(chooser: Chooser, op: ir.Op, choice: Choice, bound: float | None, bits: int) -> int:
    """Return how many more fraction bits a product with a small public factor may have than other values.

    The result is as much smaller as the factor is below 1. So it needs these bits, and takes no room from the
    products that read it. A sum would bring other values to its format, so that all readers have to be
    products. Only ring 64 has the room.

    bound: the largest magnitude of the public factor, or None. bits: the fraction bits of the secret factor,
    which the result keeps, too, if only products with public values read it.
    """
    if not bound or choice.format.ring_bits < 64:
        return 0
    readers = [user for user, _ in _readers(op.results[0])]
    if any(user.name not in _PRODUCTS for user in readers):
        return 0
    zeros, least = -math.ceil(math.log2(bound)), choice.format.fraction_bits
    alone = all(sum(map(chooser.is_secret, user.operands)) == 1 for user in readers)
    kept = min(max(bits, least) + zeros, _MOST_BITS_ALONE) if alone else min(least + zeros, _MOST_BITS)
    return max(0, kept - least)


def zeros_in_readers(op: ir.Op, choice: Choice) -> int:
    """Return how many more fraction bits a product of secrets may have, since all that read it scale it down.

    An example is Adam's average 0.001 g^2 of squares. The readers keep these bits by `zeros_below_one`.
    """
    if choice.range is not None or choice.format.ring_bits < 64:
        return 0
    zeros = SCALED_BITS - choice.format.fraction_bits
    for user, value in _readers(op.results[0]):
        factors = [each for each in user.operands if each != value]
        bound = largest(factors[0]) if user.name == "stablehlo.multiply" and len(factors) == 1 else None
        if not bound:
            return 0
        zeros = min(zeros, -math.ceil(math.log2(bound)))
    return max(0, zeros)


def _readers(value: ir.Value) -> Iterator[tuple[ir.Op, ir.Value]]:
    """Yield the operations that read the value, perhaps rearranged, and the operand that they read."""
    for user in ir.users(value):
        if user.name in _LAYOUT:
            yield from _readers(user.results[0])
        else:
            yield user, value
