"""Give more fraction bits to arguments that no product reads, so that small values keep their digits."""

from __future__ import annotations

from collections.abc import Mapping

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import record_of
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.public_operands import largest

FINE = Fxp(64, 26)  # it holds magnitudes below 2^36


def fine_format(argument: ir.Value, kinds: Mapping[ir.Op, Kind], default: Fxp) -> Fxp | None:
    """Return the format of a secret argument that is only added, compared and chosen, or None for others.

    A product would have the fraction bits of both factors, and so less room for large values. What it meets
    has to fit, too, such as the large number that stands for an infinity.
    """
    if default.ring_bits < FINE.ring_bits or default.fraction_bits >= FINE.fraction_bits:
        return None
    pending, seen = [argument], {argument}
    while pending:
        for user in ir.users(pending.pop()):
            kind = kinds.get(user)
            record = None if kind is None else record_of(user, kind)
            if kind is not None and (record is None or not record.keeps_room(user)):
                return None
            if any(_may_be_large(each, kinds) for each in user.operands):
                return None
            found = [each for each in user.results if kind and ir.is_float(each) and each not in seen]
            pending += found
            seen.update(found)
    return FINE


def _may_be_large(value: ir.Value, kinds: Mapping[ir.Op, Kind]) -> bool:
    """Tell whether a public value that the program computes may lie beyond the fine format."""
    maker = ir.define(value)
    if maker is None or kinds.get(maker, Kind.PUBLIC) is not Kind.PUBLIC or not ir.is_float(value):
        return False
    bound = largest(value)
    return bound is None or bound >= FINE.limit
