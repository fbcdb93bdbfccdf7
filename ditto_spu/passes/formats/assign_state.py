"""What the choice of formats knows while it walks, and how a decision is written on an operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.passes.analysis.classify import rule_op
from ditto_spu.passes.formats.choose_within_error import cheapest
from ditto_spu.rules.rule import Choice, Config


@dataclass
class State:
    """What the walk knows so far."""

    config: Config
    secret: dict[ir.Value, bool]
    formats: dict[ir.Value, Fxp | None] = field(
        default_factory=dict
    )  # None: an argument nobody has fixed yet
    roots: dict[ir.Value, ir.Value] = field(
        default_factory=dict
    )  # layout of an unfixed argument -> the argument
    wants: dict[ir.Value, Fxp | None] = field(default_factory=dict)
    kinds: dict[ir.Op, str] = field(default_factory=dict)
    binary: set[ir.Value] = field(default_factory=set)  # arguments of zeros and ones
    used: set[int] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    chosen: dict[ir.Op, Choice] = field(default_factory=dict)  # by an error limit

    def choose(self, rule_op: str, path: str) -> Choice:
        choice = self.config.lookup(rule_op, path)
        self.used |= choice.rules
        self.paths.add(path)
        return choice

    def sets_format(self, rule_op: str, path: str) -> bool:
        return any(rule.format is not None and rule.matches(rule_op, path) for rule in self.config.rules)


def choice_of(state: State, op: ir.Op) -> Choice:
    """What the rules say of an operation; where they set an error limit, the cheapest that keeps it."""
    choice = state.choose(rule_op(op, state.kinds[op]), ir.path_of(op))
    if choice.error is None or (choice.operand and choice.approx):
        return choice
    if op not in state.chosen:
        state.chosen[op] = cheapest(op, choice, lambda maker: declared(state, maker))
    return state.chosen[op]


def declared(state: State, op: ir.Op) -> float | None:
    """The range that a rule promises for the result of an operation."""
    if state.kinds.get(op, "public") in ("public", "cast", "spu"):
        return None
    return state.choose(rule_op(op, state.kinds[op]), ir.path_of(op)).range


def consumers_want(state: State, value: ir.Value) -> Fxp | None:
    """The format in which all consumers of a value take it, if they agree."""
    returned = any(each.name in ("func.return", "stablehlo.return") for each in ir.users(value))
    return None if returned else state.wants.get(value)


def current_format(state: State, value: ir.Value, asked: Fxp) -> Fxp:
    """The format of a value; an argument that nobody has fixed yet becomes what is asked for."""
    known = state.formats[value]
    if known is not None:
        return known
    root = state.roots[value]
    for each, owner in list(state.roots.items()):
        if owner == root:
            state.formats[each] = asked
    return asked


def record(op: ir.Op, fxp: Fxp, natural: Fxp | None = None) -> None:
    """Write the format of the result, and that before its cast if it is another."""
    ir.set_string(op, "ditto.format", str(fxp))
    if natural is not None and natural != fxp:
        ir.set_string(op, "ditto.natural", str(natural))


def record_operands(op: ir.Op, formats: Mapping[ir.Value, Fxp]) -> None:
    """Write what each operand is cast to."""
    ir.set_string(
        op, "ditto.operands", ",".join(str(formats[each]) if each in formats else "-" for each in op.operands)
    )
