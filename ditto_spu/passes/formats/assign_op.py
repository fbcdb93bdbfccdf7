"""Decide about one operation, from what the rules say and from the operation's record."""

from __future__ import annotations

from dataclasses import replace

from ditto_spu import ir
from ditto_spu.ops import record_of
from ditto_spu.ops.decision import Decision, Kind
from ditto_spu.ops.op import Formats
from ditto_spu.passes.formats.assign_state import State
from ditto_spu.plan.plan import INTEGER, SPU_FORMAT


def decide(state: State, op: ir.Op) -> None:
    """Decide about an operation whose operands are decided, and note the decision in the state."""
    kind, path, result = state.kinds[op], ir.path_of(op), op.results[0]
    record = record_of(op, kind)
    if record is None:
        _leave_to_spu(state, op, path)
        return
    choice = state.choice_of(op)
    default = choice.format
    if not state.ruled_format(record.name, op):
        default = state.wanted(result) or default
    formats = record.formats(state, op, choice, default)
    for maker in formats.untruncated:
        earlier = state.decisions[maker]
        state.decisions[maker] = replace(earlier, format=earlier.natural, natural=None)
        state.formats[maker.results[0]] = earlier.natural
    decision = replace(_decision(kind, path, op, formats), nth=state.numbers.get(op))
    if kind is Kind.KERNEL:
        decision = replace(decision, approx=choice.approx or formats.approx, inner=choice.inner)
    state.decisions[op] = replace(decision, range=choice.range)
    state.formats[result] = formats.result
    if formats.result is None:
        state.roots[result] = next(state.roots[each] for each in op.operands if state.secret[each])


def _leave_to_spu(state: State, op: ir.Op, path: str) -> None:
    formats = {each: SPU_FORMAT if ir.is_float(each) else INTEGER for each in (*op.operands, *op.results)}
    operands = {each: formats[each] for each in op.operands if state.secret[each]}
    for each in operands:
        state.settle(each, SPU_FORMAT)
    state.formats |= {each: formats[each] for each in op.results}
    state.decisions[op] = _decision(Kind.SPU, path, op, Formats(operands, formats[op.results[0]]))


def _decision(kind: Kind, path: str, op: ir.Op, formats: Formats) -> Decision:
    natural = formats.natural if formats.natural != formats.result else None
    operands = tuple(formats.operands.get(each) for each in op.operands)
    return Decision(
        formats.kind or kind,
        path,
        format=formats.result,
        natural=natural,
        operands=None if formats.result is None else operands,
        factor=formats.factor,
    )
