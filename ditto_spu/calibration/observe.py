"""Observers run the plaintext program and record how large every secret value becomes.

Of a configuration they use only the functions that it replaces (Quad, 2Quad, 2ReLU), because these change the
values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jax import Array
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.calibration.identity import is_observed
from ditto_spu.calibration.measure import RESULT, Measure, names, read
from ditto_spu.calibration.summary import Observed, summary
from ditto_spu.calibration.wrapped_integers import arithmetic
from ditto_spu.ops import observed, record_of, subject
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.observed import Facts
from ditto_spu.ops.op import Op, Span
from ditto_spu.ops.public_operands import of_any_size
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.needed import Choices, Ways, choices, is_elementwise, mask, predicates, ways
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.pipeline import Work, advance
from ditto_spu.rules.rule import Config

_REARRANGED = ("stablehlo.reshape", "stablehlo.transpose", "stablehlo.broadcast_in_dim", "stablehlo.reverse")
_MEASURED = (Kind.KERNEL, Kind.MATMUL, Kind.MULTIPLY, Kind.SPU)  # protocols with ranges for operands


@dataclass(frozen=True)
class Extremes:
    """The least and largest values of one call.

    arguments: those of each argument of the program. None for public ones, and for infinite or no elements.
    values: those of each operation, by its number. They have neither count nor histogram.
    returned: the outputs that are results of operations, by place.
    """

    arguments: tuple[Span | None, ...]
    values: Mapping[int, Observed]
    returned: Mapping[int, NDArray[Any]]


@dataclass(frozen=True)
class _Probe:
    """One operation of the observed program.

    number: its number among those of @main.
    result: the output of the program with arrays that holds its result.
    needed: the choices by which elements of its result reach an output, or None where all may.
    start, names: where the numbers of its measure begin, and what they are.
    """

    number: int
    result: int
    needed: Choices | None
    start: int
    names: tuple[str, ...]


class _Numbers:
    """The measures that are written before the end of a program, and the numbers that they will find."""

    def __init__(self, module: ir.Module, end: ir.Op) -> None:
        self._module = module
        self.ends: list[ir.Value] = []
        self._end = end
        self._known: dict[ir.Value, int] = {}  # where the numbers of a value's elements begin

    def measure(self, op: ir.Op, kind: Kind, found: Ways, reads: bool) -> tuple[int, tuple[str, ...]]:
        """Write the measure of an operation. Returns where its numbers begin, and their names.

        found: the ways by which elements of the result reach an output.
        reads: whether its protocol has ranges for operands.
        """
        result = op.results[0]
        operands = list(op.operands) if reads else []
        if not operands and found is None:
            return self.elements(result), (RESULT,)
        booleans = list(dict.fromkeys(predicates(found)))
        measure = Measure(
            f"{subject(op, kind)} {ir.signature(op)}" if operands else "",
            len(operands),
            None if found is None else choices(found, {each: place for place, each in enumerate(booleans)}),
            found is not None and is_elementwise(op),
            partial(_facts, op, record_of(op, kind)) if operands else _no_facts,
        )
        return self._write(measure, [result, *operands, *booleans])

    def elements(self, value: ir.Value) -> int:
        """Write the measure of all elements of a value. Returns where its numbers begin."""
        origin = _origin(value)
        if origin not in self._known:
            self._known[origin], _ = self._write(Measure("", 0, None, False, _no_facts), [origin])
        return self._known[origin]

    def _write(self, measure: Measure, values: list[ir.Value]) -> tuple[int, tuple[str, ...]]:
        found = names(measure, tuple((ir.shape(each), ir.dtype(each)) for each in values))
        start = len(self.ends)
        self.ends += ir.call(self._module, "measure", measure, values, self._end, self._end.location)
        return start, found


def _origin(value: ir.Value) -> ir.Value:
    """Return the value that has the same elements before they were rearranged."""
    op = ir.define(value)
    while op is not None and op.name in _REARRANGED and 0 not in ir.shape(value):
        value = op.operands[0]
        op = ir.define(value)
    return value


class Observer:
    """The fused program of a traced call, extended so that it measures every secret value that it computes.

    linear: the call after the pass `linearise`.
    config: supplies the functions to replace.
    """

    def __init__(self, linear: Work, config: Config) -> None:
        work = linear
        if config.replaces_functions:
            work = advance(replace(work, config=config), "replace_functions")
        self._program, module = work.parts, ir.clone(work.module)
        secret = visibility(module, self._program.public)
        *operations, end = ir.ops(ir.body(ir.main(module)))
        taken = ways(operations)
        self._probes: list[_Probe] = []
        arrays: dict[ir.Value, int] = {}  # results and the booleans of choices, with their places as outputs
        numbers = _Numbers(module, end)
        for number, (op, kind) in enumerate(kinds(operations, lambda value: secret[value]).items()):
            if not is_observed(op, kind):
                continue
            found = taken[op.results[0]]
            for each in (op.results[0], *predicates(found)):
                arrays.setdefault(each, len(arrays))
            public = [each for each in op.operands if not secret[each]]
            reads = kind in _MEASURED or (kind is Kind.SCALE and any(map(of_any_size, public)))
            start, known = numbers.measure(op, kind, found, reads)
            needed = None if found is None else choices(found, arrays)
            self._probes.append(_Probe(number, arrays[op.results[0]], needed, start, known))
        values = list(arrays)
        outputs = {each: place for place, each in enumerate(end.operands)}
        returned = [
            (outputs[values[probe.result]], values[probe.result])
            for probe in self._probes
            if values[probe.result] in outputs
        ]
        self._arguments = [
            None if each.public else numbers.elements(value)
            for each, value in zip(self._program.arguments, ir.arguments(module), strict=True)
        ]
        self._count = len(numbers.ends)
        self._module = module  # the operations of `_whole` live as long as the module
        beside: dict[ir.Value, int] = {}  # the values that `extremes` needs as they are
        self._whole = arithmetic(operations, secret)
        for whole in self._whole:
            for value in (*whole.op.operands, *predicates(whole.ways)):
                beside.setdefault(value, len(beside))
        self._beside = beside
        self._returned = {place: beside.setdefault(value, len(beside)) for place, value in returned}
        everything = ir.ops(ir.body(ir.main(module)))[:-1]
        self._text = ir.extract(everything, ir.arguments(module), [*numbers.ends, *beside], "observed")
        self._with_arrays = ir.extract(everything, ir.arguments(module), [*numbers.ends, *arrays], "observed")

    def _read(
        self, numbers: Sequence[NDArray[Any]]
    ) -> Iterator[tuple[_Probe, Span | None, Mapping[str, Span]]]:
        """Yield each probe with the extremes of its result and the facts about its operands."""
        for probe in self._probes:
            yield probe, *read(probe.names, numbers[probe.start : probe.start + 2 * len(probe.names)])

    def __call__(self, values: Sequence[Any]) -> dict[int, Observed]:
        """Run one call and return the values observed in it, by the number of the operation.

        values: one array for each argument of the program that the parties run.
        """
        returned = ir.evaluate(self._with_arrays, values)
        found = {}
        numbers: Sequence[Any] = returned[: self._count]
        outputs: Sequence[Any] = returned[self._count :]
        for probe, _, facts in self._read(numbers):
            result = outputs[probe.result]
            if probe.needed is not None:
                result = result[np.asarray(mask(probe.needed, result.shape, outputs))]
            found[probe.number] = summary(result, facts)
        return found

    def extremes(self, values: Sequence[Any]) -> Extremes:
        """Run the program in plaintext, and return least and largest values.

        values: one array for each argument of the program that the parties run.
        Raises RangeError if an integer wraps before it is read as a number.
        """
        evaluated = ir.evaluate(self._text, values)
        numbers, beside = evaluated[: self._count], evaluated[self._count :]
        for whole in self._whole:
            whole.check(lambda value: beside[self._beside[value]])
        arguments = []
        for start in self._arguments:
            ends = None if start is None else read((RESULT,), numbers[start : start + 2])[0]
            arguments.append(ends)
        found = {
            probe.number: Observed(*(ends or (0.0, 0.0)), 0, {}, facts)
            for probe, ends, facts in self._read(numbers)
        }
        returned = {place: beside[each] for place, each in self._returned.items()}
        return Extremes(tuple(arguments), found, returned)


def _facts(op: ir.Op, record: Op | None, operands: Sequence[Array]) -> Facts:
    """Return what the ranges of an operation's kernel are about."""
    if record is None:
        return observed.operand(op, operands)
    return {} if record.facts is None else record.facts(op, operands)


def _no_facts(operands: Sequence[Array]) -> Facts:
    del operands
    return {}
