"""Choose a format for every secret value: by rules, then by what the consumers ask for, then by default.

The file of each operation in `ops/` says how the operation chooses. This pass walks the program twice:
backward to collect what consumers want, and forward to decide. It then writes the decisions on the
operations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import record_of
from ditto_spu.ops.decision import Kind, read_entry, write, write_formats
from ditto_spu.ops.products import SCALED_BITS
from ditto_spu.ops.public_operands import largest
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.numbers import numbers
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.assign_op import decide
from ditto_spu.passes.formats.assign_state import State
from ditto_spu.passes.formats.fine_arguments import fine_format
from ditto_spu.plan.plan import INTEGER, SPU_FORMAT
from ditto_spu.rules.rule import INPUT, Config


def assign(
    module: ir.Module,
    public: Sequence[bool],
    config: Config,
    arguments: Sequence[tuple[str, Fxp | None]] = (),
) -> ir.Module:
    """Return a copy of the fused module with every decision written on it.

    public: whether each argument of @main is public.
    arguments: for each argument of @main its path, and the format that it has already, or None.
    Raises ConfigError for a rule that no operation uses, and for rules that do not fit the program.
    """
    module = ir.clone(module)
    secret = visibility(module, public)
    operations = ir.ops(ir.body(ir.main(module)))[:-1]
    found = kinds(operations, lambda value: secret[value])
    state = State(config, secret, found, numbers(found))
    for op in reversed(operations):
        _want(state, op)
    entry = read_entry(module)
    for place, argument in enumerate(ir.arguments(module)):
        if place in entry.binary:
            state.binary.add(argument)
        if state.secret[argument]:
            path, fxp = arguments[place] if arguments else ("", None)
            if not ir.is_float(argument):
                state.formats[argument] = fxp or INTEGER
            elif place in entry.prepared:
                state.formats[argument] = _ruled(state, *entry.prepared[place])
            else:
                fine = fine_format(argument, found, state.default_format)
                state.formats[argument] = fxp or _by_rule(state, path) or fine
            state.roots[argument] = argument
    for op in operations:
        if state.kinds[op] is not Kind.PUBLIC:
            decide(state, op)
    _finish(state, module)
    state.used |= {  # rules for work that owners do in plaintext, which needs no format
        place
        for place, rule in enumerate(config.rules)
        if any(rule.path is None or re.fullmatch(rule.path, path) for path in entry.hoisted)
    }
    config.refuse_unused_rules(state.used, sorted(state.paths))
    config.warn_of_misspelt_rules(state.used, sorted(state.paths))
    ir.verify(module)
    return module


def _ruled(state: State, subject: str, path: str) -> Fxp | None:
    """Return the format that a rule for this path gives to a value that its owner computes in plaintext."""
    rules = (
        rule
        for rule in state.config.rules
        if rule.path is not None and not rule.number and rule.matches(subject, path)
    )
    return next((rule.format for rule in rules if rule.format is not None), None)


def _by_rule(state: State, path: str) -> Fxp | None:
    """Return the format that a rule for inputs sets at this path.

    None leaves the format to the consumer of the argument.
    """
    if not any(
        rule.op and INPUT in rule.op and rule.path and rule.format and rule.matches(INPUT, path)
        for rule in state.config.rules
    ):
        return None
    return state.rules_at(INPUT, path).format


def _want(state: State, op: ir.Op) -> None:
    """Note the format in which the consumers of each operand would take it, if they agree.

    Operations are visited backward.
    """
    kind = state.kinds[op]
    if kind in (Kind.PUBLIC, Kind.CAST):
        return
    wanted: Fxp | None
    if kind is Kind.SPU:
        wanted = SPU_FORMAT
    elif kind is Kind.LOCAL:
        wanted = state.wanted(op.results[0])
    elif kind is Kind.SCALE:
        wanted = _wanted_of_scaled(state, op)
    else:
        record = record_of(op, kind)
        assert record is not None
        wanted = record.wish(state.choice_of(op))
    for operand in op.operands:
        if state.secret[operand] and ir.is_float(operand):
            known = state.wants.get(operand, wanted)
            state.wants[operand] = wanted if known == wanted else _finer(state, known, wanted)


def _finer(state: State, first: Fxp | None, second: Fxp | None) -> Fxp | None:
    """Return the coarser one of two formats in one ring that are both finer than the default, or None."""
    if first is None or second is None or first.ring_bits != second.ring_bits:
        return None
    coarser = min(first, second, key=lambda each: each.fraction_bits)
    finer = coarser.fraction_bits > state.default_format.fraction_bits
    return coarser if finer and coarser.ring_bits == state.default_format.ring_bits else None


def _wanted_of_scaled(state: State, op: ir.Op) -> Fxp | None:
    """Return the format in ring 64 in which the consumers of a value take it, so that its factor keeps bits.

    Such a value is a mean, which is a sum times a known number. The product with that number needs room, too,
    so that the sum gets `SCALED_BITS` at most.
    """
    wanted = state.wanted(op.results[0])
    known = all(state.secret[each] or largest(each) is not None for each in op.operands)
    if not known or wanted is None or wanted.ring_bits < 64:
        return None
    return Fxp(wanted.ring_bits, min(wanted.fraction_bits, SCALED_BITS))


def _finish(state: State, module: ir.Module) -> None:
    """Give a format to every argument that no operation fixed: by a rule for inputs, or by default.

    Then write all decisions on the module.
    """
    formats: list[Fxp | None] = []
    for argument in ir.arguments(module):
        if state.secret[argument] and state.formats[argument] is None:
            state.settle(argument, state.rules_at(INPUT, "").format)
        formats.append(state.formats[argument] if state.secret[argument] else None)
    write_formats(module, formats)
    for op, decision in state.decisions.items():
        if decision.format is None:
            fxp = state.formats[op.results[0]]
            operands = tuple(fxp if state.secret[each] else None for each in op.operands)
            decision = replace(decision, format=fxp, operands=operands)
        write(op, decision)
