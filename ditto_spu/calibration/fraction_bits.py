"""Tell how many fraction bits values need, so that their rounding stays small beside their usual size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.observe import Observed, Place
from ditto_spu.ops import OPS, subject
from ditto_spu.ops.decision import Kind, decided
from ditto_spu.ops.public_operands import largest
from ditto_spu.rules.rule import INPUT

USUAL_BITS = 6  # a value of the usual size has at least so many bits: it is rounded by less than 1 %
RETURNED_BITS = 9  # the same for what is returned
DECIDING_BITS = 12  # the same for what a decision depends on
EXACT_BITS = 18  # the fraction bits of what a decision reads: more than narrow formats have


def usual_size(seen: Observed | None) -> float:
    """Return the usual size of the values at a place, or 0 where none were observed."""
    return 0.0 if seen is None else seen.usual


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
    cancel may not. Other readers need the bits of what they read. Decisions, such as comparisons, need all
    bits of what they read, and more bits of everything that it is computed from. The scale and the shift of a
    norm have formats of their own.

    operations: those of @main with decisions, in order.
    returned: the results of @main.
    arguments: the paths of the secret arguments.
    """
    sizes = {value: usual_size(calibration.at(path, INPUT)) for value, path in arguments.items()}
    for op in operations:
        sizes[op.results[0]] = usual_size(calibration.at(*place_of(op)))
    decided_by = _decided_by(operations)
    needs: dict[ir.Value, int] = {}

    def need(value: ir.Value, bits: int) -> None:
        needs[value] = max(needs.get(value, 0), bits)

    def need_own(value: ir.Value, bits: int = USUAL_BITS) -> None:
        bits = max(bits, DECIDING_BITS) if value in decided_by else bits
        need(value, bits_for(sizes.get(value, 0.0), bits))

    for value in returned:
        need_own(value, RETURNED_BITS)
    for op in reversed(operations):
        kind = decided(op).kind
        if kind is Kind.LOCAL:
            for each in op.operands:
                need(each, needs.get(op.results[0], 0))
        elif kind is Kind.SCALE:
            for each, other in (op.operands, tuple(op.operands)[::-1]):
                need_own(each)
                factor = largest(other) or 0.0
                if factor > 1:  # it magnifies roundings, too
                    need(each, needs.get(op.results[0], 0) + math.ceil(math.log2(factor)))
        elif kind is Kind.MATMUL:
            need_own(op.operands[0])
            need_own(op.operands[1])
        elif (record := OPS.get(place_of(op)[1])) is None or not record.search.absolute:
            for each in op.operands:
                if record is not None and record.search.decides:
                    need(each, EXACT_BITS)
                if each == op.operands[0] or ir.shape(each) == ir.shape(op.results[0]):
                    need_own(each)
    return needs


def _decided_by(operations: Sequence[ir.Op]) -> set[ir.Value]:
    """Return all values on which a decision depends."""
    found: set[ir.Value] = set()
    for op in reversed(operations):
        record = OPS.get(place_of(op)[1])
        decides = record is not None and record.search.decides
        if decides or any(each in found for each in op.results):
            found.update(op.operands)
    return found
