"""List every range on which the operations of a program rely, once it has formats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.headroom import Range, Ranges
from ditto_spu.calibration.known import Known
from ditto_spu.ir.locations import UNKNOWN_LINE
from ditto_spu.ops import intervals, record_of, subject
from ditto_spu.ops.cast import is_cast
from ditto_spu.ops.decision import Decision, Kind, Nth, read, read_entry
from ditto_spu.ops.op import Call
from ditto_spu.passes.analysis.guarded import DIVISOR, guarding
from ditto_spu.passes.analysis.needed import ways
from ditto_spu.passes.analysis.needed_ranges import not_taken
from ditto_spu.passes.analysis.reach import reach
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.verify import product_room, result_room
from ditto_spu.plan.plan import SPU_FORMAT
from ditto_spu.rules.rule import INPUT
from ditto_spu.spu import limits

OPERANDS = ("operand", "second")


def ranges(
    module: ir.Module,
    public: Sequence[bool],
    arguments: Sequence[str],
    known: Known | None = None,
) -> Ranges:
    """Return the ranges of a module that has formats, the narrowest one of each quantity.

    public: for each argument, whether it is public.
    arguments: the paths of the arguments.
    known: the observed values.
    """
    of_arguments = (row for _, row in observed_arguments(module, arguments, known))
    return Ranges(_worst([*of_arguments, *(row for _, row in observed_operations(module, public, known))]))


def observed_arguments(
    module: ir.Module, paths: Sequence[str], known: Known | None
) -> Iterator[tuple[int, Range]]:
    """Yield what `argument_ranges` returns, with the observed values."""
    for place, row in argument_ranges(module, paths):
        yield place, row if known is None else row.seen(known.argument(row.path))


def observed_operations(
    module: ir.Module, public: Sequence[bool], known: Known | None
) -> Iterator[tuple[int, Range]]:
    """Yield what `relied_on` does, with the observed values. Quantities without values are left out."""
    for number, row in relied_on(module, public):
        seen = None if known is None else known.operations[number]
        if seen is None or row.what not in OPERANDS or row.what in seen.facts:
            yield number, row.seen(seen)


def argument_ranges(module: ir.Module, paths: Sequence[str]) -> list[tuple[int, Range]]:
    """Return the ranges of the shared arguments of a module that has formats, each with its place."""
    formats = read_entry(module).formats
    return [
        (place, Range(path, INPUT, None, "result", str(fxp), -fxp.limit / 2, fxp.limit / 2, watch="owner"))
        for place, (value, path, fxp) in enumerate(zip(ir.arguments(module), paths, formats, strict=False))
        if fxp is not None and ir.is_float(value)
    ]


def relied_on(module: ir.Module, public: Sequence[bool]) -> Iterator[tuple[int, Range]]:
    """Yield every range that an operation of a module with formats relies on, without observed values.

    Each comes with the number of its operation among those that are no casts.
    """
    return ((number, row) for number, row, _ in about_values(module, public))


def about_values(module: ir.Module, public: Sequence[bool]) -> Iterator[tuple[int, Range, ir.Value | None]]:
    """Yield what `relied_on` does, and the value that each range is about, if all of its elements matter."""
    secret = visibility(module, public)
    known = intervals(module)
    operations = ir.ops(ir.body(ir.main(module)))[:-1]
    taken, found_by = ways(operations), guarding(module, public)
    for number, op in enumerate(op for op in operations if not is_cast(op)):
        decision = read(op)
        if decision is None or not _has_ranges(op, decision.kind):
            continue
        line = ir.source_of(op)
        rows = _on_spu if decision.kind is Kind.SPU else _of
        whole = taken[op.results[0]] is None
        try:
            found = list(rows(Call(op, decision, secret.__getitem__, reach)))
        except ValueError as error:
            raise not_taken(op, error) from error
        for row in found:
            about = _subject(op, row.fact) if whole else None
            proven = None if about is None else known.get(about)
            proven = None if proven == ir.EVERYTHING else proven
            read_there = _read_there(op, decision, row)
            watch = found_by.watches(read_there, (row.low, row.high), row.fact)
            found_row = replace(row, line="" if line == UNKNOWN_LINE else line, proven=proven, watch=watch)
            yield number, found_row, about


def _subject(op: ir.Op, fact: str) -> ir.Value | None:
    """Return the value that a fact is about, or None where it is about something else."""
    places = {each: place for place, each in enumerate(OPERANDS)}
    if not fact:
        return op.results[0]
    return op.operands[places[fact]] if fact in places and places[fact] < len(op.operands) else None


def _read_there(op: ir.Op, decision: Decision, row: Range) -> ir.Value:
    """Return the value that the guard watches for a range: an operand, or the result as others read it."""
    if row.fact:
        return op.operands[1 if row.fact in ("second", DIVISOR) and len(op.operands) > 1 else 0]
    users = ir.users(op.results[0])
    cast = decision.natural is not None and row.what == "result" and len(users) == 1 and is_cast(users[0])
    return users[0].results[0] if cast else op.results[0]


def _has_ranges(op: ir.Op, kind: Kind) -> bool:
    """Tell whether a result is fixed-point, or whether a kernel reads fixed-point values for another one."""
    reads = kind is Kind.KERNEL and any(ir.is_float(each) for each in op.operands)
    return reads or ir.is_float(op.results[0])


def _worst(rows: Sequence[Range]) -> tuple[Range, ...]:
    """Return the narrowest of the ranges that bound the same quantity of the same operations.

    Of equal ones it is one that is not proven, if there is any. Operations without a number, such as the
    layout at a path, count as one.
    """
    kept: dict[tuple[str, str, Nth | None, str], Range] = {}
    for row in rows:
        key = (row.path, row.op, row.nth, row.what)
        if key not in kept or _tightness(row) < _tightness(kept[key]):
            kept[key] = row
    return tuple(kept.values())


def _tightness(row: Range) -> tuple[float, float, bool]:
    room = math.inf if row.headroom is None else row.headroom
    return room, row.high, row.ground == "proven"


def _on_spu(call: Call) -> Iterator[Range]:
    """Yield the range on which an operation in a step of SPU relies."""
    path, op, format_ = call.decision.path, subject(call.op, Kind.SPU), str(SPU_FORMAT)
    yield Range(path, op, None, "result", format_, -limits.RESULT, limits.RESULT)


def _of(call: Call) -> Iterator[Range]:
    """Yield the ranges on which one operation relies: of its formats, its declaration and its kernel."""
    op, decision = call.op, call.decision
    record = record_of(op, decision.kind)
    assert record is not None
    declared, out, natural = decision.range, decision.out, decision.natural

    def row(what: str, fxp: Fxp, high: float, fact: str = "", low: float | None = None) -> Range:
        about = declared if not fact else None
        low = -high if low is None else low
        return Range(decision.path, record.name, decision.nth, what, str(fxp), low, high, None, about, fact)

    if ir.is_float(op.results[0]):
        yield row("result", out, result_room(op, decision))
    if declared is not None:
        yield row("declared range", out, declared)
    if natural is not None:
        yield row("product", natural, product_room(natural, out))
    operands = decision.operands or ()
    # The fact "operand" is about the first operand, and "second" about the second one of a product.
    for index, what in enumerate(OPERANDS):
        fxp = operands[index] if index < len(operands) else None
        if fxp is not None and not (index and record.integers) and ir.is_float(op.operands[index]):
            yield row(what, fxp, record.room(call, fxp), what)
    formats = [fxp for fxp in operands if fxp is not None]  # a dividend may be public
    for each in record.relies_on(call):
        format_ = out if not each.fact or each.exact or not formats else formats[0]
        if formats or each.exact:
            found = row(each.quantity, format_, each.high, each.fact, each.low)
            yield replace(found, exact=each.exact, told=each.told)
