"""Cut long programs into parts, because XLA takes a time that grows faster than their length to compile them.

It fuses each operation into all that read it. A loop of 360 turns on a single number, unrolled, takes half a
minute as one program, and two seconds in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ditto_spu.ir.bindings import Module, Op, Value
from ditto_spu.ir.cut_out import extract
from ditto_spu.ir.module import arguments, body, main, ops
from ditto_spu.ir.values import captured

OPERATIONS = 250  # of a part
LONG = 500  # shorter programs stay whole, so that everyday models are fused as ever


@dataclass(frozen=True)
class Part:
    """The text of a part, and where its arguments and results are among the values that parts pass on.

    The first of these values are the arguments of the program. Each part appends its results.
    """

    text: str
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Parts:
    """The parts of a program in order, and where its results are among the values that they pass on."""

    parts: tuple[Part, ...]
    results: tuple[int, ...]


def parts(module: Module) -> Parts | None:
    """Return the parts of a long program, or None for a program that XLA compiles as a whole."""
    *operations, end = ops(body(main(module)))
    if len(operations) <= LONG:
        return None
    places = {value: place for place, value in enumerate(arguments(module))}
    groups = [operations[start : start + OPERATIONS] for start in range(0, len(operations), OPERATIONS)]
    last_read: dict[Value, int] = {}
    for number, group in enumerate(groups):
        for op in group:
            last_read |= dict.fromkeys(_operands(op), number)
    last_read |= dict.fromkeys(end.operands, len(groups))
    made = []
    for number, group in enumerate(groups):
        inputs = _read(group)
        results = [each for op in group for each in op.results if last_read.get(each, 0) > number]
        made.append(Part(extract(group, inputs, results, f"part{number}"), tuple(places[v] for v in inputs)))
        places |= {value: len(places) + at for at, value in enumerate(results)}
    return Parts(tuple(made), tuple(places[each] for each in end.operands))


def _read(group: Sequence[Op]) -> list[Value]:
    """Return the values that the operations read and do not make."""
    made = {each for op in group for each in op.results}
    return list(dict.fromkeys(each for op in group for each in _operands(op) if each not in made))


def _operands(op: Op) -> list[Value]:
    """Return the operands of an operation, and the values around it that its regions read."""
    return [*op.operands, *captured(op)] if len(op.regions) else list(op.operands)
