"""The changes that a precision search may try.

Each is a rule that sets one value for a group of like operations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.ops import OPS, subject
from ditto_spu.ops.decision import Kind, decided, read
from ditto_spu.rules.rule import WEIGHT, Config, Rule, literal

STEPS = (-1, 1)  # changes in fraction bits
SAFETY = 2.0  # the margin over the largest value observed
_DIGITS = re.compile(r"(?<=/)\d+(?=/|$)|^\d+(?=/)")


@dataclass(frozen=True)
class Group:
    """Operations of one kind that differ in the number of their layer alone. The same values apply to all.

    op: the op of the rules.
    path: a regular expression that matches their paths.
    paths: the paths.
    places: the numbers of the operations in @main.
    """

    op: str
    path: str
    paths: tuple[str, ...]
    places: tuple[int, ...] = field(compare=False)  # numbers of the operations in @main

    def __str__(self) -> str:
        return f"{self.op} at '{self.path}'"


@dataclass(frozen=True)
class Move:
    """A change: one value for one group, as a rule."""

    group: Group
    rule: Rule

    @property
    def key(self) -> tuple[str, tuple[str, ...] | None, str]:
        """Return the key of a move. A later move with the same key replaces an earlier one."""
        value = next(
            name for name in ("operand", "inner", "format", "approx", "range") if getattr(self.rule, name)
        )
        return self.group.path, self.rule.op, value


def groups(module: ir.Module, config: Config) -> list[Group]:
    """Return the groups of products and kernels in a module with formats.

    Layers for which the configuration has different values stay apart.
    """
    found: dict[tuple[object, ...], list[tuple[str, int]]] = {}
    for number, op in enumerate(ir.ops(ir.body(ir.main(module)))[:-1]):
        decision = read(op)
        if (
            decision is None
            or decision.kind not in (Kind.MATMUL, Kind.KERNEL)
            or not ir.is_float(op.results[0])
        ):
            continue
        named, path = subject(op, decision.kind), decision.path
        choice = config.lookup(named, path, decision.nth)
        weight = config.lookup(WEIGHT, path, decision.nth).format if OPS[named].search.products else None
        same = (named, _DIGITS.sub("#", path), choice.format, choice.operand, choice.inner, weight)
        found.setdefault(same, []).append((path, number))
    made = []
    for (op_kind, *_), members in found.items():
        paths = tuple(dict.fromkeys(path for path, _ in members))
        made.append(Group(str(op_kind), pattern(paths), paths, tuple(number for _, number in members)))
    return made


def pattern(paths: tuple[str, ...]) -> str:
    """Return a regular expression for exactly these paths, which differ in numbers of layers alone."""
    numbers = [_DIGITS.findall(path) for path in paths]
    parts = [literal(part) for part in _DIGITS.split(paths[0])]
    text = parts[0]
    for place, part in enumerate(parts[1:]):
        choices = list(dict.fromkeys(each[place] for each in numbers))
        text += (choices[0] if len(choices) == 1 else f"({'|'.join(choices)})") + part
    return text


def moves(group: Group, config: Config, module: ir.Module, calibration: Calibration) -> Iterator[Move]:
    """Yield the moves of a group: formats, ranges and approximations that differ from the present ones.

    module: the module with formats in which the group was found.
    calibration: limits ranges and narrow formats to values with room for twice the largest one observed.
    """
    decision = decided(ir.ops(ir.body(ir.main(module)))[group.places[0]])
    record, path = OPS[group.op], group.paths[0]
    choice, kinds = config.lookup(group.op, path, decision.nth), (group.op,)
    results = (*_near(decision.out), *_narrow(decision.out, group, calibration))
    for fxp in results if "format" in record.takes else ():
        yield Move(group, Rule(path=group.path, op=kinds, format=fxp))
    if record.search.products:
        tight = float(f"{SAFETY * largest(group, calibration):.3g}")
        if choice.range is not None and 0 < tight < choice.range:
            yield Move(group, Rule(path=group.path, op=kinds, range=tight))
        first = decision.operands[0] if decision.operands else None
        for fxp in _near(choice.operand or first or decision.out):
            yield Move(group, Rule(path=group.path, op=kinds, operand=fxp))
        for fxp in _near(config.lookup(WEIGHT, path, decision.nth).format):
            yield Move(group, Rule(path=group.path, op=(WEIGHT,), format=fxp))
    for fxp in record.search.operands:
        if fxp != choice.operand:
            yield Move(group, Rule(path=group.path, op=kinds, operand=fxp))
    for fxp in record.search.inner:
        if fxp != choice.inner:
            yield Move(group, Rule(path=group.path, op=kinds, inner=fxp))
    replaced = record.approximation(choice.approx).needs_training  # only trained models work with it
    if record.steepness is not None and not replaced:
        for name, approximation in record.approximations.items():
            if not approximation.needs_training and name != (choice.approx or name):
                yield Move(group, Rule(path=group.path, op=kinds, approx=name))


def largest(group: Group, calibration: Calibration) -> float:
    """Return the largest magnitude that was observed in a group, or 0."""
    seen = [calibration.at(path, group.op) for path in group.paths]
    return max((each.largest for each in seen if each is not None), default=0.0)


def _narrow(fxp: Fxp, group: Group, calibration: Calibration) -> list[Fxp]:
    """Return the finest format of ring 16 that has room for twice the largest value observed."""
    reach = SAFETY * largest(group, calibration)
    if fxp.ring_bits <= 16 or not 0 < reach < math.inf:
        return []
    bits = min(fxp.fraction_bits, 14 - math.ceil(math.log2(reach)))
    return [Fxp(16, bits)] if bits >= 4 else []


def _near(fxp: Fxp) -> list[Fxp]:
    return [
        Fxp(fxp.ring_bits, fxp.fraction_bits + step)
        for step in STEPS
        if 2 <= fxp.fraction_bits + step < fxp.ring_bits - 2
    ]
