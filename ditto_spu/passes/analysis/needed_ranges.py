"""Tell in which range each value has to lie for everything that reads it: functions, casts and outputs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ops import record_of, subject
from ditto_spu.ops.cast import Cast, is_cast, read_cast
from ditto_spu.ops.decision import Decision, Kind, read
from ditto_spu.ops.op import Call, Secret
from ditto_spu.passes.analysis.reach import reach


def meeting(one: ir.Interval, other: ir.Interval) -> ir.Interval:
    """Return the interval of the values in both."""
    return max(one[0], other[0]), min(one[1], other[1])


def largest(interval: ir.Interval) -> float:
    """Return the largest magnitude in an interval."""
    return max(-interval[0], interval[1])


def within(bound: float) -> ir.Interval:
    """Return the interval of magnitudes up to a bound."""
    return -bound, bound


def holds(outer: ir.Interval, inner: ir.Interval) -> bool:
    """Tell whether an interval lies in another one."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def needs_of(
    operations: Sequence[ir.Op], secret: Secret, whole: Collection[ir.Value]
) -> dict[ir.Value, ir.Interval]:
    """Return the range in which each value has to lie for all that read it.

    whole: the values of which every element may reach an output. What else reads a value may take anything.
    """
    needs: dict[ir.Value, ir.Interval] = {}
    for op in operations:
        if not all(each in whole for each in op.results):
            continue
        try:
            needed = list(_needed(op, secret))
        except ValueError as error:
            raise not_taken(op, error) from error
        for value, need in needed:
            if ir.is_float(value) and secret(value):
                needs[value] = meeting(needs.get(value, ir.EVERYTHING), need)
    return needs


def not_taken(op: ir.Op, error: ValueError) -> UnsupportedOpError:
    """Return the error, with path and line, for an operation whose kernel does not take its formats."""
    decision = read(op)
    assert decision is not None
    place = ir.path_of(op) or "the program"
    return UnsupportedOpError(f"{place} ({ir.source_of(op)}): {subject(op, decision.kind)}: {error}")


def _needed(op: ir.Op, secret: Secret) -> Iterator[tuple[ir.Value, ir.Interval]]:
    """Yield the ranges in which an operation needs its operands."""
    decision = read(op)
    if is_cast(op):
        cast = read_cast(op)
        if (source := cast.source_format) is not None:
            yield op.operands[0], within(_cast_room(cast, source))
    elif decision is None:  # the outputs
        for value in op.operands:
            fxp = format_of(value)
            if fxp is not None:
                yield value, within(fxp.limit / 2)
    elif decision.kind is Kind.KERNEL:
        yield from _of_kernel(op, decision, secret)


def is_free(cast: Cast, source: Fxp) -> bool:
    """Tell whether a cast is local: it goes to a smaller ring, and drops no more bits than that."""
    dropped = source.fraction_bits - cast.target.fraction_bits
    return 0 <= dropped <= source.ring_bits - cast.target.ring_bits and cast.target != source


def _cast_room(cast: Cast, source: Fxp) -> float:
    """Return the magnitude that a cast takes. One that is free is watched by its result."""
    dropped = source.fraction_bits - cast.target.fraction_bits
    masked = not is_free(cast, source) and (dropped > 0 or cast.target.ring_bits > source.ring_bits)
    room = source.limit / 2 if masked else math.inf
    return min(room, cast.target.limit / 2) if dropped < 0 else room


def _of_kernel(op: ir.Op, decision: Decision, secret: Secret) -> Iterator[tuple[ir.Value, ir.Interval]]:
    record, call = record_of(op, decision.kind), Call(op, decision, secret, reach)
    assert record is not None
    formats = decision.operands or ()
    for place, (value, fxp) in enumerate(zip(op.operands, formats, strict=False)):
        if fxp is not None and ir.is_float(value) and secret(value):
            yield value, within(fxp.limit / 2 if place else record.room(call, fxp))
    if not any(fxp is not None for fxp in formats):
        return
    for each in record.relies_on(call):
        if each.fact in ("operand", "second"):
            yield op.operands[each.fact == "second"], (each.low, each.high)


def format_of(value: ir.Value) -> Fxp | None:
    """Return the format of a shared value, or None for an argument before it has one."""
    maker = ir.define(value)
    if maker is None:
        return None
    if is_cast(maker):
        return read_cast(maker).target
    decision = read(maker)
    return None if decision is None or decision.format is None else decision.computed
