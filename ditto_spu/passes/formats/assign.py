"""Choose a format for every secret value: first rules, then what the consumers ask for, then the default.

The decisions are string attributes on the operations: `ditto.kind`, `ditto.path`, `ditto.format` (of the
result), `ditto.natural` (of the result before its cast: a product has the fraction bits of both operands),
`ditto.operands` (what each secret operand is cast to; '-' leaves it), `ditto.approx`, `ditto.inner`,
`ditto.range`. `ditto.arguments` on @main holds the formats of the secret arguments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.assign_op import decide
from ditto_spu.passes.formats.assign_state import (
    State,
    choice_of,
    consumers_want,
    current_format,
    record_operands,
)
from ditto_spu.plan.plan import INTEGER, SPU_FORMAT
from ditto_spu.rules.rule import Config


def assign(
    module: ir.Module,
    public: Sequence[bool],
    config: Config,
    arguments: Sequence[tuple[str, Fxp | None]] = (),
) -> ir.Module:
    """A copy of the fused module with every decision written on it. ConfigError for an unused rule.

    arguments: path of each argument of @main, and the format it has already, if any.
    """
    module = ir.clone(module)
    state = State(config, visibility(module, public))
    block = ir.body(ir.main(module))
    operations = ir.ops(block)
    state.kinds = kinds(operations[:-1], lambda value: state.secret[value])
    for op in reversed(operations[:-1]):
        _want(state, op)
    binary = (ir.attribute(ir.main(module), "ditto.binary") or "").split(",")
    lines = (ir.attribute(ir.main(module), "ditto.prepared") or "").split("\n")
    prepared = {int(place): tuple(rest) for line in lines if line for place, *rest in [line.split(" ", 2)]}
    for place, argument in enumerate(ir.arguments(module)):
        if str(place) in binary:
            state.binary.add(argument)
        if state.secret[argument]:
            path, fxp = arguments[place] if arguments else ("", None)
            if not ir.is_float(argument):
                state.formats[argument] = fxp or INTEGER
            elif place in prepared:
                state.formats[argument] = _ruled(state, *prepared[place])
            else:
                state.formats[argument] = fxp or _by_rule(state, path)
            state.roots[argument] = argument
    for op in operations[:-1]:
        if state.kinds[op] not in ("public", "inner"):
            decide(state, op)
    _finish_arguments(state, module)
    hoisted = (ir.attribute(ir.main(module), "ditto.hoisted") or "").split("\n")
    state.used |= {  # by what owners do in plaintext, which needs no format
        place
        for place, rule in enumerate(config.rules)
        if any(rule.path is None or re.fullmatch(rule.path, path) for path in hoisted if path)
    }
    config.refuse_unused_rules(state.used, sorted(state.paths))
    ir.verify(module)
    return module


def _ruled(state: State, op: str, path: str) -> Fxp | None:
    """The format that a rule for this path gives to what its owner computes in plaintext."""
    rules = (rule for rule in state.config.rules if rule.path is not None and rule.matches(op, path))
    return next((rule.format for rule in rules if rule.format is not None), None)


def _by_rule(state: State, path: str) -> Fxp | None:
    """The format that a rule for inputs at this path sets; None leaves it to whoever uses the argument."""
    if not any(
        rule.op and "input" in rule.op and rule.path and rule.format and rule.matches("input", path)
        for rule in state.config.rules
    ):
        return None
    return state.choose("input", path).format


def _want(state: State, op: ir.Op) -> None:
    """Backward: the format in which the consumers of each operand would take it, if they agree."""
    kind = state.kinds[op]
    if kind in ("public", "cast"):
        return
    wanted: Fxp | None
    if kind == "spu":
        wanted = SPU_FORMAT
    elif kind == "local":
        wanted = consumers_want(state, op.results[0])
    elif kind == "scale":
        wanted = None
    else:
        wanted = choice_of(state, op).operand
    for operand in op.operands:
        if state.secret[operand] and ir.is_float(operand):
            known = state.wants.get(operand, wanted)
            state.wants[operand] = wanted if known == wanted else None


def _finish_arguments(state: State, module: ir.Module) -> None:
    """Arguments that no operation fixed take the format of a rule for inputs, or the default."""
    formats = []
    for argument in ir.arguments(module):
        if not state.secret[argument]:
            formats.append("-")
            continue
        if state.formats[argument] is None:
            current_format(state, argument, state.choose("input", "").format)
        formats.append(str(state.formats[argument]))
    ir.set_string(ir.main(module), "ditto.arguments", ",".join(formats))
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        if ir.attribute(op, "ditto.format") == "argument":
            fxp = state.formats[op.results[0]]
            ir.set_string(op, "ditto.format", str(fxp))
            record_operands(op, {each: fxp for each in op.operands if state.secret[each] and fxp is not None})
