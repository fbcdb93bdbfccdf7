"""Define the rules of a precision configuration.

They choose format, range and approximation of each op of a program.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import ConfigError, ConfigWarning, nearest
from ditto_spu.ops import OPS
from ditto_spu.ops.decision import Nth
from ditto_spu.ops.op import Choice
from ditto_spu.rules.misspelt import nearly_matches

INPUT, WEIGHT = "input", "weight"

# The subjects of rules, which are arguments and operations, with a line for the docs.
SUBJECTS: dict[str, str] = {
    INPUT: "a secret argument of the function",
    WEIGHT: "a secret argument used as the right operand of a matmul",
    **{op.name: op.summary for op in OPS.values()},
}

# These tables come from the records of the operations: the approximations of each, those that need training,
# the operations for which an error limit chooses, the values that a rule may set, and the operations whose
# kernels compute in a format of their own.
APPROXIMATIONS = {op.name: tuple(op.approximations) for op in OPS.values() if op.approximations}
NEED_TRAINING = tuple(
    name for op in OPS.values() for name, each in op.approximations.items() if each.needs_training
)
ERROR_LIMITED = tuple(op.name for op in OPS.values() if op.steepness is not None)
TAKES = {INPUT: ("format",), WEIGHT: ("format",), **{op.name: op.takes for op in OPS.values()}}
WITH_INNER = tuple(op.name for op in OPS.values() if "inner" in op.options)

KEYS = ("path", "op", "number", "of", "optional")
VALUES = ("format", "operand", "inner", "range", "approx", "error")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: an op of kind `op` at a path that `path` fully matches gets the values that are set.

    The first five fields are keys, and the others are values.
    Raises ConfigError for an unknown op, a path that is not a regular expression, numbers that do not fit,
    values that do not fit the op, and a rule that sets no value.
    """

    path: str | None = None  # a regular expression; None matches every path
    op: tuple[str, ...] | None = None  # kinds of op; None matches every kind
    number: tuple[int, ...] = ()  # which of the ops of this kind at this path, from 1; () matches all
    of: int | None = None  # how many there are; with another number the rule is refused
    optional: bool = False  # an optional rule may stay unused

    format: Fxp | None = None  # the format of the op's result
    operand: Fxp | None = None  # the format that the op's operands are cast to first
    inner: Fxp | None = None  # the format of a kernel between operand and result
    range: float | None = None  # the declared range: |result| <= range
    approx: str | None = None
    error: float | None = None  # a limit: operand and approx that no rule sets are the cheapest within it

    def __post_init__(self) -> None:
        for kind in self.op or ():
            if kind not in SUBJECTS:
                raise ConfigError(f"unknown op '{kind}'" + nearest(kind, SUBJECTS))
        if self.path is not None:
            try:
                re.compile(self.path)
            except re.error as error:
                raise ConfigError(f"path '{self.path}' is not a regular expression: {error}") from None
        _check_numbers(self)
        if self.approx is not None:
            _check_approximation(self.approx, self.op)
        if self.inner is not None:
            _check_inner(self.op)
        if self.error is not None:
            _check_error(self.error, self.op)
        for name in ("format", "operand", "range"):
            if getattr(self, name) is not None:
                _check_taken(name, self.op)
        if self.range is not None:
            if not 0 < self.range < float("inf"):
                raise ConfigError(f"range {self.range:g} is not a positive finite number")
            if self.format is not None:
                _check_range(self.range, self.format)
        if all(getattr(self, name) is None for name in VALUES):
            raise ConfigError(f"a rule without a value does nothing: set one of {', '.join(VALUES)}")

    def matches(self, op: str, path: str) -> bool:
        """Tell whether the rule speaks about this op at this path."""
        return (self.op is None or op in self.op) and (
            self.path is None or _pattern(self.path).fullmatch(path) is not None
        )

    def __str__(self) -> str:
        """Return the rule as TOML."""
        set_fields = {
            f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default
        }
        return toml(set_fields)


@dataclass(frozen=True, kw_only=True)
class Config:
    """An ordered list of rules over a default format.

    name, description: as in the file.
    default_format: the format of every value that no rule speaks about.
    narrow: whether a calibration chooses narrower formats where it knows the values.
    rules: the rules, in order.
    source: the file's name, or "a dictionary", for error messages.
    """

    name: str
    default_format: Fxp
    description: str = ""
    narrow: bool = False
    rules: tuple[Rule, ...] = ()
    source: str = "a dictionary"

    @property
    def replaces_functions(self) -> bool:
        """Whether a rule replaces functions by others, which only trained models can work with."""
        return any(rule.approx in NEED_TRAINING for rule in self.rules)

    def lookup(self, op: str, path: str, nth: Nth | None = None) -> Choice:
        """Return the values that the rules choose for an op at a path.

        For each value, the first rule that matches the op and sets this value wins.

        nth: which one of several ops of this kind at the path it is. Without it, rules with numbers do not
            match.

        Raises ConfigError for an unknown op, for a range that the format does not hold, and for a rule with
        numbers that was written for a program with more or fewer such ops.
        """
        if op not in SUBJECTS:
            raise ConfigError(f"unknown op '{op}'" + nearest(op, SUBJECTS))
        chosen: dict[str, Any] = {}
        giver: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if not self.applies(index, op, path, nth):
                continue
            for name in TAKES[op]:
                value = getattr(rule, name)
                if value is not None and name not in chosen:
                    chosen[name], giver[name] = value, index
        format_: Fxp = chosen.get("format", self.default_format)
        if "range" in chosen:
            try:
                _check_range(chosen["range"], format_)
            except ConfigError as error:
                by = f"rule {giver['format'] + 1}" if "format" in giver else "the default"
                raise self._error(
                    giver["range"], f"{error} (the format of {op} at '{path}' is set by {by})"
                ) from None
        return Choice(
            format=format_,
            operand=chosen.get("operand"),
            inner=chosen.get("inner"),
            range=chosen.get("range"),
            approx=chosen.get("approx"),
            error=chosen.get("error"),
            rules=frozenset(giver.values()),
        )

    def applies(self, index: int, op: str, path: str, nth: Nth | None) -> bool:
        """Tell whether a rule speaks about this op at this path.

        nth: as for `lookup`.
        """
        rule = self.rules[index]
        if not rule.matches(op, path):
            return False
        if rule.number and nth is not None and nth.of != rule.of:
            raise self._error(
                index,
                f"it was written for a program with {rule.of} ops of kind {op} at '{path}', and this program "
                f"has {nth.of}: calibrate this program, or number its ops anew",
            )
        return not rule.number or (nth is not None and nth.number in rule.number)

    def unused_rules(self, used: Collection[int]) -> tuple[int, ...]:
        """Return the indices of the rules that no op took a value from, except the optional ones."""
        return tuple(i for i, rule in enumerate(self.rules) if i not in used and not rule.optional)

    def refuse_unused_rules(self, used: Collection[int], paths: Iterable[str] = ()) -> None:
        """Raise ConfigError for the first rule that did nothing.

        used: the indices of the rules that gave a value.
        paths: the paths of the program, for a hint.
        """
        for index in self.unused_rules(used):
            path = self.rules[index].path
            hint = nearest(path, paths) if path is not None else ""
            raise self._error(
                index,
                "no op of this program takes a value from this rule; correct it, move it before the rules "
                f"that hide it, or mark it `optional = true`{hint}",
            )

    def warn_of_misspelt_rules(self, used: Collection[int], paths: Collection[str]) -> None:
        """Warn with a ConfigWarning of optional rules that did nothing, and whose path is nearly a program's.

        used: the indices of the rules that gave a value.
        paths: the paths of the program.
        """
        for index, rule in enumerate(self.rules):
            if index in used or not rule.optional or rule.path is None:
                continue
            if any(re.fullmatch(rule.path, path) for path in paths):
                continue  # another rule stands before it, or it is about another op
            close = next((path for path in paths if nearly_matches(rule.path, path)), None)
            if close is not None:
                warnings.warn(
                    f"{self.source}, rule {index + 1}: no path of this program matches '{rule.path}', but "
                    f"'{close}' nearly does: correct the rule, or remove it",
                    ConfigWarning,
                    stacklevel=2,
                )

    def _error(self, index: int, message: str) -> ConfigError:
        return rule_error(message, index, str(self.rules[index]), self.source)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(path)


def _check_numbers(rule: Rule) -> None:
    if not rule.number and rule.of is None:
        return
    if not rule.number or rule.of is None:
        raise ConfigError("number and of go together: number = [1, 3] and of = 4 are two of four ops")
    if not all(1 <= each <= rule.of for each in rule.number):
        raise ConfigError(f"number {list(rule.number)} does not lie within 1 to {rule.of}")
    if rule.op is None or len(rule.op) != 1 or rule.op[0] == INPUT:
        raise ConfigError("numbers count the ops of one kind at a path: name one op that is no input")


def _check_approximation(approx: str, ops: tuple[str, ...] | None) -> None:
    if ops is None:
        raise ConfigError(f"approx = '{approx}' needs the op it is for: add a line such as op = \"gelu\"")
    for kind in ops:
        names = APPROXIMATIONS.get(kind, ())
        if approx in names:
            continue
        owners = [other for other, theirs in APPROXIMATIONS.items() if approx in theirs]
        if not names:
            raise ConfigError(f"{kind} has no approximations to choose from: remove approx = '{approx}'")
        if owners:
            raise ConfigError(
                f"approximation '{approx}' is for {' and '.join(owners)}, not for {kind}: "
                f"choose one of {', '.join(names)}"
            )
        raise ConfigError(f"{kind} has no approximation '{approx}'" + nearest(approx, names))


def _check_taken(name: str, ops: tuple[str, ...] | None) -> None:
    for kind in ops or ():
        if name not in TAKES[kind]:
            raise ConfigError(
                f"a rule cannot set `{name}` of {kind}, where it would do nothing: "
                f"set {', '.join(TAKES[kind])}"
            )


def _check_inner(ops: tuple[str, ...] | None) -> None:
    wrong = [kind for kind in ops or ("every op",) if kind not in WITH_INNER]
    if wrong:
        raise ConfigError(
            f"inner is for {', '.join(WITH_INNER)}, not for {wrong[0]}: name the op, or set `operand` instead"
        )


def _check_error(error: float, ops: tuple[str, ...] | None) -> None:
    if not 0 < error < float("inf"):
        raise ConfigError(f"error {error:g} is not a positive finite number")
    wrong = [kind for kind in ops or ("every op",) if kind not in ERROR_LIMITED]
    if wrong:
        raise ConfigError(
            f"an error limit is for {', '.join(ERROR_LIMITED)}, not for {wrong[0]}: name the op, or choose "
            "its formats"
        )


def _check_range(range_: float, fxp: Fxp) -> None:
    if range_ >= fxp.limit:
        raise ConfigError(f"range {range_:g} does not fit {fxp}, which holds magnitudes below {fxp.limit:g}")


def rule_error(message: str, index: int, text: str, source: str) -> ConfigError:
    """Return the error with its place and the rule itself."""
    return ConfigError(
        f"{source}, rule {index + 1}: {message}\n  [[rule]]\n"
        + "\n".join(f"  {line}" for line in text.splitlines())
    )


def toml(row: Mapping[str, Any]) -> str:
    """Return a rule as it is written in a file."""
    return "\n".join(f"{key} = {_literal(value)}" for key, value in row.items())


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]" if len(value) != 1 else _literal(value[0])
    if isinstance(value, int | float):
        return f"{value:g}"
    return f"'{value}'" if "\\" in str(value) else f'"{value}"'


def literal(path: str) -> str:
    """Return a regular expression that matches one path alone, with special characters escaped."""
    return "".join(f"\\{each}" if each in r".^$*+?{}[]\|()" else each for each in path)
