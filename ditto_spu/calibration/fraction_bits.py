"""Tell how many fraction bits values need, so that their rounding stays small beside their usual size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.observe import STEPS, ZERO, Observed, Place
from ditto_spu.ops import OPS, subject
from ditto_spu.ops.decision import Kind, decided
from ditto_spu.rules.rule import INPUT

USUAL_BITS = 6  # a value of the usual size has at least so many bits: it is rounded by less than 1 %
RETURNED_BITS = 9  # the same for what is returned
_COMMON = 0.99  # the part of the elements that counts; the largest ones may be outliers


def usual_size(seen: Observed | None) -> float:
    """Return the root mean square of the observed magnitudes without the largest hundredth, or 0."""
    if seen is None or not seen.count:
        return 0.0
    for part in (_COMMON, 1.0):  # of rows that are nearly all zero, the rest counts
        left, total = part * seen.count, 0.0
        for each, count in sorted(seen.histogram.items()):
            taken = min(count, left)
            left -= taken
            total += 0.0 if each == ZERO else taken * 4.0 ** ((each + 0.5) / STEPS)
        if total:
            return math.sqrt(total / (part * seen.count))
    return 0.0


def bits_for(size: float, bits: int = USUAL_BITS) -> int:
    """Return the fraction bits with which a value of this size has `bits` bits, and 0 for size 0."""
    return math.ceil(bits - math.log2(size)) if 0 < size < math.inf else 0


def place_of(op: ir.Op) -> Place:
    """Return the place of an operation with a decision."""
    decision = decided(op)
    return decision.path, subject(op, decision.kind)


def needed_bits(
    operations: Sequence[ir.Op],
    returned: Sequence[ir.Value],
    arguments: Mapping[ir.Value, str],
    calibration: Calibration,
) -> dict[ir.Value, int]:
    """Return the fraction bits that readers of each secret value need, where a calibration knows its size.

    A sum needs the bits of its own result, so small terms of a large sum may be rounded away, and terms that
    cancel may not. Other readers need the bits of what they read. The scale and the shift of a norm have
    formats of their own.

    operations: those of @main with decisions, in order.
    returned: the results of @main.
    arguments: the paths of the secret arguments.
    """
    sizes = {value: usual_size(calibration.at(path, INPUT)) for value, path in arguments.items()}
    for op in operations:
        sizes[op.results[0]] = usual_size(calibration.at(*place_of(op)))
    needs: dict[ir.Value, int] = {}

    def need(value: ir.Value, bits: int) -> None:
        needs[value] = max(needs.get(value, 0), bits)

    def need_own(value: ir.Value, bits: int = USUAL_BITS) -> None:
        need(value, bits_for(sizes.get(value, 0.0), bits))

    for value in returned:
        need_own(value, RETURNED_BITS)
    for op in reversed(operations):
        kind = decided(op).kind
        if kind is Kind.LOCAL:
            for each in op.operands:
                need(each, needs.get(op.results[0], 0))
        elif kind is Kind.MATMUL:
            need_own(op.operands[0])
            need_own(op.operands[1])
        elif not OPS[place_of(op)[1]].search.absolute:
            for each in op.operands:
                if each == op.operands[0] or ir.shape(each) == ir.shape(op.results[0]):
                    need_own(each)
    return needs
