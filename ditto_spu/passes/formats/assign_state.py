"""Hold the state of the pass that assigns formats, and answer the questions of operations."""

from __future__ import annotations

from dataclasses import dataclass, field

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import subject
from ditto_spu.ops.decision import Decision, Kind, Nth
from ditto_spu.ops.op import Choice
from ditto_spu.passes.formats.choose_within_error import cheapest
from ditto_spu.rules.rule import Config


@dataclass
class State:
    """The state of the walk. It is the `ops.op.Chooser` that operations ask.

    config: the configuration.
    secret: whether each value is secret.
    kinds: the kind of each operation.
    numbers: which one of those of its kind at its path an operation is.
    binary: the arguments that hold only zeros and ones.
    formats: the formats of the secret values so far. An entry is None for an argument whose format is still
        open, and for a value that only rearranges such an argument.
    roots: the argument behind each value of that sort.
    wants: the format in which all consumers take a value, or None if they differ.
    decisions: the decisions so far.
    used: the indices of the rules that gave a value so far.
    paths: the paths that were asked for.
    within_error: the choices that were made under an error limit.
    """

    config: Config
    secret: dict[ir.Value, bool]
    kinds: dict[ir.Op, Kind]
    numbers: dict[ir.Op, Nth]
    binary: set[ir.Value] = field(default_factory=set)
    formats: dict[ir.Value, Fxp | None] = field(default_factory=dict)
    roots: dict[ir.Value, ir.Value] = field(default_factory=dict)
    wants: dict[ir.Value, Fxp | None] = field(default_factory=dict)
    decisions: dict[ir.Op, Decision] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    within_error: dict[ir.Op, Choice] = field(default_factory=dict)

    @property
    def default_format(self) -> Fxp:
        return self.config.default_format

    def is_secret(self, value: ir.Value) -> bool:
        return self.secret[value]

    def is_binary(self, value: ir.Value) -> bool:
        return value in self.binary

    def known(self, value: ir.Value) -> Fxp | None:
        return self.formats[value]

    def settle(self, value: ir.Value, wish: Fxp) -> Fxp:
        known = self.formats[value]
        if known is not None:
            return known
        root = self.roots[value]
        for each, owner in list(self.roots.items()):
            if owner == root:
                self.formats[each] = wish
        return wish

    def wanted(self, value: ir.Value) -> Fxp | None:
        returned = any(each.name in ("func.return", "stablehlo.return") for each in ir.users(value))
        return None if returned else self.wants.get(value)

    def rules(self, subject: str, op: ir.Op) -> Choice:
        return self.rules_at(subject, ir.path_of(op), self.numbers.get(op))

    def rules_at(self, subject: str, path: str, nth: Nth | None = None) -> Choice:
        """Return the values that rules choose for an argument or an operation at a path."""
        choice = self.config.lookup(subject, path, nth)
        self.used |= choice.rules
        self.paths.add(path)
        return choice

    def ruled_format(self, subject: str, op: ir.Op) -> bool:
        path, nth = ir.path_of(op), self.numbers.get(op)
        return any(
            rule.format is not None and self.config.applies(index, subject, path, nth)
            for index, rule in enumerate(self.config.rules)
        )

    def decision(self, op: ir.Op) -> Decision | None:
        return self.decisions.get(op)

    def choice_of(self, op: ir.Op) -> Choice:
        """Return what the rules choose for an operation.

        Where they set an error limit, this is the cheapest choice that stays within it.
        """
        choice = self.rules(subject(op, self.kinds[op]), op)
        if choice.error is None or (choice.operand and choice.approx):
            return choice
        if op not in self.within_error:
            self.within_error[op] = cheapest(op, choice, self.is_secret, self._declared)
        return self.within_error[op]

    def _declared(self, op: ir.Op) -> float | None:
        """Return the range that a rule promises for the result of an operation, or None."""
        if self.kinds.get(op, Kind.PUBLIC) in (Kind.PUBLIC, Kind.CAST, Kind.SPU):
            return None
        return self.rules(subject(op, self.kinds[op]), op).range
