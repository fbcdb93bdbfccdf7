"""Tell how many fraction bits values need, so that their rounding stays small beside their usual size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ditto_spu import ir
from ditto_spu.calibration.places import place_of
from ditto_spu.calibration.summary import Observed
from ditto_spu.ops import OPS
from ditto_spu.ops.decision import Kind, decided
from ditto_spu.ops.products import is_sum
from ditto_spu.ops.public_operands import largest
from ditto_spu.ops.slopes import Sizes

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


def needed_bits(
    operations: Sequence[ir.Op],
    returned: Sequence[ir.Value],
    seen: Mapping[ir.Value, Observed | None],
) -> dict[ir.Value, int]:
    """Return the fraction bits that readers of each secret value need, where its size is known.

    A sum needs the bits of its own result, so small terms of a large sum may be rounded away, and terms that
    cancel may not. Products, quotients, roots and the like need the bits of what they read, and those with
    which its rounding stays small in their result. Other readers need the bits of what they read. Decisions,
    such as comparisons, need all bits of what they read, and more bits of everything that it is computed
    from. The scale and the shift of a norm have formats of their own.

    operations: those of @main with decisions, in order.
    returned: the results of @main.
    seen: the observed values of the results of operations and of arguments.
    """
    decided_by = _decided_by(operations)
    needs: dict[ir.Value, int] = {}

    def need(value: ir.Value, bits: int) -> None:
        needs[value] = max(needs.get(value, 0), bits)

    def need_own(value: ir.Value, bits: int = USUAL_BITS) -> None:
        bits = max(bits, DECIDING_BITS) if value in decided_by else bits
        need(value, bits_for(usual_size(seen.get(value)), bits))

    for value in returned:
        need_own(value, RETURNED_BITS)
    for op in reversed(operations):
        kind = decided(op).kind
        if kind is Kind.LOCAL:
            for each in op.operands:
                need(each, needs.get(op.results[0], 0) + _summed_bits(op, each))
        elif kind is Kind.SCALE:
            for each, other in (op.operands, tuple(op.operands)[::-1]):
                need_own(each)
                factor = largest(other) or 0.0
                if factor:  # it magnifies roundings, or makes them smaller
                    need(each, needs.get(op.results[0], 0) + math.ceil(math.log2(factor)))
        elif kind is Kind.MATMUL:
            need_own(op.operands[0])
            need_own(op.operands[1])
        elif slopes := _slopes(op, seen):
            for each, slope in slopes.items():
                need_own(each)
                need(each, needs.get(op.results[0], 0) + math.ceil(math.log2(slope)))
        elif (record := OPS.get(place_of(op).op)) is None or not record.search.absolute:
            for each in op.operands:
                if record is not None and record.search.decides:
                    need(each, EXACT_BITS)
                if each == op.operands[0] or ir.shape(each) == ir.shape(op.results[0]):
                    need_own(each)
    return needs


def _summed_bits(op: ir.Op, operand: ir.Value) -> int:
    """Return how many more bits the terms of a sum over dimensions need, since their roundings add up."""
    if not is_sum(op.results[0]):
        return 0
    terms = math.prod(ir.shape(operand)) / max(1, math.prod(ir.shape(op.results[0])))
    return math.ceil(math.log2(terms) / 2) if terms > 1 else 0


def _slopes(op: ir.Op, seen: Mapping[ir.Value, Observed | None]) -> dict[ir.Value, float]:
    """Return the factors by which errors of the secret operands reach the result, where they are known."""
    record = OPS.get(place_of(op).op)
    if record is None or record.search.slopes is None:
        return {}
    sizes = {each: _sizes(seen.get(each)) for each in (*op.operands, *op.results)}
    found = record.search.slopes([sizes[each] for each in op.operands], sizes[op.results[0]])
    slopes: dict[ir.Value, float] = {}
    for each, slope in zip(op.operands, found, strict=True):
        if seen.get(each) is not None and 0 < slope < math.inf:
            slopes[each] = max(slope, slopes.get(each, 0.0))
    return slopes


def _sizes(seen: Observed | None) -> Sizes:
    """Return the magnitudes of a value, 1 where they are unknown or zero."""
    if seen is None or not seen.usual or not math.isfinite(seen.largest):
        return Sizes(1.0, 1.0, 1.0)
    return Sizes(seen.smallest, seen.usual, seen.largest)


def _decided_by(operations: Sequence[ir.Op]) -> set[ir.Value]:
    """Return all values on which a decision depends."""
    found: set[ir.Value] = set()
    for op in reversed(operations):
        record = OPS.get(place_of(op).op)
        decides = record is not None and record.search.decides
        if decides or any(each in found for each in op.results):
            found.update(op.operands)
    return found
