"""Observers run the plaintext program and record how large every secret value becomes.

Of a configuration they use only the functions that it replaces (Quad, 2Quad, 2ReLU), because these change the
values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.calibration.needed import Ways, is_elementwise, mask, predicates, ways
from ditto_spu.calibration.wrapped_integers import arithmetic
from ditto_spu.errors import RangeError
from ditto_spu.frontend.trace import Traced
from ditto_spu.ops import observed, record_of, subject
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.op import Op, Span, span
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.pipeline import advance, begin
from ditto_spu.rules.rule import INPUT, NEED_TRAINING, Config

STEPS = 4  # bins of the histogram per octave
ZERO = -400  # the bin of zeros, and of all magnitudes below 2^-100


@dataclass(frozen=True)
class Observed:
    """The values observed at one place. `+` joins two of them.

    least, most: the extreme values.
    count: the number of values.
    histogram: by i, the number of magnitudes in [2^(i/4), 2^((i+1)/4)).
    facts: by name, the least and the largest value of further quantities that a protocol bounds, such as the
        variances of rows.
    """

    least: float
    most: float
    count: int
    histogram: Mapping[int, int]
    facts: Mapping[str, Span] = field(default_factory=dict)

    def __add__(self, other: Observed) -> Observed:
        bins = {**self.histogram}
        for each, count in other.histogram.items():
            bins[each] = bins.get(each, 0) + count
        facts = {**self.facts}
        for name, (low, high) in other.facts.items():
            known = facts.get(name, (low, high))
            facts[name] = min(low, known[0]), max(high, known[1])
        return Observed(
            min(self.least, other.least),
            max(self.most, other.most),
            self.count + other.count,
            dict(sorted(bins.items())),
            facts,
        )

    @property
    def largest(self) -> float:
        """Return the largest magnitude."""
        return max(abs(self.least), abs(self.most))

    def percentile(self, percent: float) -> float:
        """Return a magnitude that this percentage of the values does not exceed.

        It is the upper edge of a bin of the histogram, but at most the largest magnitude.
        """
        wanted, seen = percent / 100 * self.count, 0
        for each, count in sorted(self.histogram.items()):
            seen += count
            if seen >= wanted:
                return 0.0 if each == ZERO else min(2.0 ** ((each + 1) / STEPS), self.largest)
        return self.largest


Place = tuple[str, str]  # a path, and an op of the rules


@dataclass(frozen=True)
class _Probe:
    """One operation of the observed program, with its number.

    result, operands: the outputs of the observing program that hold its result and its operands.
    ways: the ways by which elements of its result reach an output, or None where all may.
    """

    number: int
    place: Place
    op: ir.Op
    record: Op | None
    result: int
    operands: tuple[int, ...]
    ways: Ways

    def facts(self, operands: Sequence[NDArray[Any]]) -> Mapping[str, Span]:
        """Return what the ranges of the operation's kernel are about."""
        if not operands:
            return {}
        if self.record is None:
            return observed.operand(self.op, operands)
        return {} if self.record.facts is None else self.record.facts(self.op, operands)


class Observer:
    """The fused program of a traced call, extended so that it returns every secret value that it computes.

    traced: the call.
    config: supplies the functions to replace.
    """

    def __init__(self, traced: Traced, config: Config) -> None:
        work = advance(begin(traced), "linearise")
        if any(rule.approx in NEED_TRAINING for rule in config.rules):
            work = advance(replace(work, config=config), "replace_functions")
        self._program, module = work.parts, work.module
        secret = visibility(module, self._program.public)
        operations = ir.ops(ir.body(ir.main(module)))[:-1]
        self._outputs: dict[ir.Value, int] = {}
        self._probes: list[_Probe] = []
        taken = ways(operations)
        self._seen: dict[str, Any] = {}  # the arguments of the last call, by path
        for number, (op, kind) in enumerate(kinds(operations, lambda value: secret[value]).items()):
            special = kind in (Kind.KERNEL, Kind.MATMUL, Kind.MULTIPLY, Kind.SPU)
            floats = [*op.results, *(op.operands if kind is Kind.KERNEL else ())]
            if kind is Kind.PUBLIC or len(op.results) != 1 or not any(map(ir.is_float, floats)):
                continue
            operands = tuple(self._output(each) for each in op.operands) if special else ()
            place, record = (ir.path_of(op), subject(op, kind)), record_of(op, kind)
            needed = taken[op.results[0]]
            for each in predicates(needed):
                self._output(each)
            self._probes.append(
                _Probe(number, place, op, record, self._output(op.results[0]), operands, needed)
            )
        self._whole = arithmetic(operations, secret)
        for whole in self._whole:
            for value in (*whole.op.operands, *predicates(whole.ways)):
                self._output(value)
        self._returned = [
            (number, self._outputs[each])
            for number, each in enumerate(ir.ops(ir.body(ir.main(module)))[-1].operands)
            if each in self._outputs
        ]
        self.returned: dict[int, NDArray[Any]] = {}  # results of the last call of `extremes`, by place
        self._module = module  # the probes' operations live as long as the module
        self._text = ir.extract(operations, ir.arguments(module), list(self._outputs), "observed")

    def _output(self, value: ir.Value) -> int:
        """Return the number of the output that holds a value."""
        return self._outputs.setdefault(value, len(self._outputs))

    def _seen_at(
        self, probe: _Probe, outputs: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[Any], Mapping[str, Span]]:
        """Return the elements of a result that can reach an output, and the facts about their operands."""
        result, operands = outputs[probe.result], [outputs[each] for each in probe.operands]
        if probe.ways is not None:
            needed = mask(probe.ways, result.shape, lambda value: outputs[self._outputs[value]])
            if not needed.any():
                return result[needed], {}
            if not needed.all():
                result = result[needed]
                if is_elementwise(probe.op):
                    operands = [each[needed] for each in operands]
        return result, probe.facts(operands)

    def __call__(self, arrays: Sequence[Any]) -> dict[Place, Observed]:
        """Run one call and return the values observed in it, by place.

        An argument that is the same object as in the last call is not counted again.

        arrays: the arguments of the call, in the order of the trace.
        """
        found: dict[Place, Observed] = {}
        values = self._program.values(arrays)
        for argument, value in zip(self._program.arguments, values, strict=True):
            if argument.public or not np.issubdtype(np.dtype(argument.dtype), np.floating):
                continue
            if self._seen.get(argument.path) is not value:  # every call has the same weights
                _join(found, (argument.path, INPUT), summary(np.asarray(value, np.float32)))
                self._seen[argument.path] = value
        outputs = ir.evaluate(self._text, values)
        for probe in self._probes:
            _join(found, probe.place, summary(*self._seen_at(probe, outputs)))
        return found

    def extremes(self, values: Sequence[Any]) -> dict[int, Observed]:
        """Run the program in plaintext, and return least and largest values by the operation's number.

        values: one array for each argument of the program that the parties run.
        The results have no histogram. Raises RangeError if the program returns NaN or infinity, or if an
        integer wraps before it is read as a number.
        """
        outputs = ir.evaluate(self._text, values)
        self.returned = {number: outputs[place] for number, place in self._returned}
        for number, place in self._returned:
            if not np.isfinite(np.asarray(outputs[place], np.float64)).all():
                raise RangeError(
                    f"output {number} of the plaintext program holds NaN or infinity, which shares "
                    "cannot hold: choose a finite number there with jnp.where"
                )
        for whole in self._whole:
            whole.check(lambda value: outputs[self._outputs[value]])
        found = {}
        for probe in self._probes:
            result, facts = self._seen_at(probe, outputs)
            found[probe.number] = Observed(*span(result), result.size, {}, facts)
        return found


def _join(found: dict[Place, Observed], place: Place, seen: Observed) -> None:
    found[place] = found[place] + seen if place in found else seen


def summary(value: NDArray[Any], facts: Mapping[str, Span] | None = None) -> Observed:
    """Return extremes and histogram of one array.

    A NaN counts as infinite. `facts` are added as they are.
    """
    low, high = span(value)
    magnitudes = np.nan_to_num(np.abs(np.asarray(value, np.float32)).ravel(), nan=np.inf)
    with np.errstate(divide="ignore"):
        places = np.floor(STEPS * np.log2(magnitudes))
    bins, counts = np.unique(np.clip(places, ZERO, -ZERO).astype(np.int32), return_counts=True)
    histogram = dict(zip(bins.tolist(), counts.tolist(), strict=True))
    return Observed(low, high, int(magnitudes.size), histogram, facts or {})
