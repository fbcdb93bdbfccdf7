"""What a precision search may change: rules for groups of like operations, one value at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.passes.analysis.classify import KERNEL_OPS, op_name, rule_op
from ditto_spu.rules.rule import APPROXIMATIONS, ERROR_LIMITED, REPLACEMENTS, Config, Rule

STEPS = (-1, 1)  # fraction bits
SAFETY = 2.0  # times the largest value seen
_DIGITS = re.compile(r"(?<=/)\d+(?=/|$)|^\d+(?=/)")
_OPERANDS = {
    "softmax": tuple(Fxp(16, bits) for bits in (5, 6, 7)),
    "gelu": tuple(Fxp(16, bits) for bits in (8, 9, 10)),
    "silu": tuple(Fxp(16, bits) for bits in (8, 9, 10)),
    "tanh": tuple(Fxp(16, bits) for bits in (8, 9, 10)),
    "sigmoid": tuple(Fxp(16, bits) for bits in (8, 9, 10)),
}
_INNER = {
    "softmax": (Fxp(32, 12), Fxp(32, 13), Fxp(32, 14), Fxp(64, 22)),
    "layer_norm": tuple(Fxp(64, bits) for bits in (12, 13, 14, 15)),
}


@dataclass(frozen=True)
class Group:
    """Operations of one kind, alike but for the number of their layer, to which the same values apply."""

    op: str
    path: str  # a regular expression
    paths: tuple[str, ...]
    places: tuple[int, ...] = field(compare=False)  # numbers of the operations in @main

    def __str__(self) -> str:
        return f"{self.op} at '{self.path}'"


@dataclass(frozen=True)
class Move:
    """One value for one group, as a rule."""

    group: Group
    rule: Rule

    @property
    def key(self) -> tuple[str, tuple[str, ...] | None, str]:
        """A later move with the same key replaces an earlier one."""
        value = next(
            name for name in ("operand", "inner", "format", "approx", "range") if getattr(self.rule, name)
        )
        return self.group.path, self.rule.op, value


def groups(module: ir.Module, config: Config) -> list[Group]:
    """The products and kernels of an assigned module; layers for which rules say other things stay apart."""
    found: dict[tuple[object, ...], list[tuple[str, int]]] = {}
    for number, op in enumerate(ir.ops(ir.body(ir.main(module)))[:-1]):
        kind = ir.attribute(op, "ditto.kind")
        if kind not in ("matmul", "kernel") or not ir.is_float(op.results[0]):
            continue
        kind_of_rule, path = rule_op(op, kind), ir.attribute(op, "ditto.path")
        choice = config.lookup(kind_of_rule, path)
        weight = config.lookup("weight", path).format if kind == "matmul" else None
        same = (kind_of_rule, _DIGITS.sub("#", path), choice.format, choice.operand, choice.inner, weight)
        found.setdefault(same, []).append((path, number))
    made = []
    for (op_kind, *_), members in found.items():
        paths = tuple(dict.fromkeys(path for path, _ in members))
        made.append(Group(str(op_kind), pattern(paths), paths, tuple(number for _, number in members)))
    return made


def pattern(paths: tuple[str, ...]) -> str:
    """A regular expression for exactly these paths, which differ in numbers of layers alone."""
    numbers = [_DIGITS.findall(path) for path in paths]
    parts = [_escaped(part) for part in _DIGITS.split(paths[0])]
    text = parts[0]
    for place, part in enumerate(parts[1:]):
        choices = list(dict.fromkeys(each[place] for each in numbers))
        text += (choices[0] if len(choices) == 1 else f"({'|'.join(choices)})") + part
    return text


def _escaped(path: str) -> str:
    return "".join(f"\\{each}" if each in r".^$*+?{}[]\|()" else each for each in path)


def moves(group: Group, config: Config, module: ir.Module, calibration: Calibration) -> Iterator[Move]:
    """The values that differ from what the group has now."""
    op = ir.ops(ir.body(ir.main(module)))[group.places[0]]
    path = group.paths[0]
    choice, result = config.lookup(group.op, path), Fxp.parse(ir.attribute(op, "ditto.format"))
    kinds = (group.op,)
    for fxp in (*_near(result), *_narrow(result, group, calibration)):
        yield Move(group, Rule(path=group.path, op=kinds, format=fxp))
    if group.op == "matmul":
        tight = float(f"{SAFETY * largest(group, calibration):.3g}")
        if choice.range is not None and 0 < tight < choice.range:
            yield Move(group, Rule(path=group.path, op=kinds, range=tight))
        first = Fxp.parse(ir.attribute(op, "ditto.operands").split(",")[0].replace("-", str(result)))
        for fxp in _near(choice.operand or first):
            yield Move(group, Rule(path=group.path, op=kinds, operand=fxp))
        for fxp in _near(config.lookup("weight", path).format):
            yield Move(group, Rule(path=group.path, op=("weight",), format=fxp))
    for fxp in _OPERANDS.get(group.op, ()):
        if fxp != choice.operand:
            yield Move(group, Rule(path=group.path, op=kinds, operand=fxp))
    for fxp in _INNER.get(group.op, ()):
        if fxp != choice.inner:
            yield Move(group, Rule(path=group.path, op=kinds, inner=fxp))
    name = op_name(op)
    if group.op in ERROR_LIMITED and name in KERNEL_OPS:
        for approx in APPROXIMATIONS[group.op]:
            replaced = choice.approx in REPLACEMENTS  # of a model that was trained for it
            if approx not in REPLACEMENTS and not replaced and approx != (choice.approx or approx):
                yield Move(group, Rule(path=group.path, op=kinds, approx=approx))


def largest(group: Group, calibration: Calibration) -> float:
    """The largest magnitude seen in a group."""
    seen = [calibration.at(path, group.op) for path in group.paths]
    return max((each.largest for each in seen if each is not None), default=0.0)


def _narrow(fxp: Fxp, group: Group, calibration: Calibration) -> list[Fxp]:
    """The finest format of ring 16 that has room for twice what was seen."""
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
