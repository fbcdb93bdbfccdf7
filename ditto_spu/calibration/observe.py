"""Observers run the plaintext program and record how large every secret value becomes.

Of a configuration they use only the functions that it replaces (Quad, 2Quad, 2ReLU), because these change the
values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jax import Array
from numpy.typing import NDArray

from ditto_spu import ir
from ditto_spu.calibration.measure import RESULT, Measure, names, read
from ditto_spu.calibration.wrapped_integers import arithmetic
from ditto_spu.frontend.trace import Traced
from ditto_spu.ops import observed, record_of, subject
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.observed import Facts
from ditto_spu.ops.op import Op, Span, span
from ditto_spu.ops.public_operands import of_any_size
from ditto_spu.passes.analysis.classify import kinds
from ditto_spu.passes.analysis.needed import Choices, Ways, choices, is_elementwise, mask, predicates, ways
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.pipeline import advance, begin
from ditto_spu.rules.rule import INPUT, NEED_TRAINING, Config

STEPS = 4  # bins of the histogram per octave
USUAL = "usual size"  # the name of a fact, see `Observed.usual`
_COMMON = 0.99  # the part of the elements that counts there; the largest ones may be outliers
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

    @property
    def usual(self) -> float:
        """Return the root mean square of the magnitudes without the largest hundredth, or 0.

        Where several arrays were observed at one place, it is the least one of them.
        """
        if USUAL in self.facts:
            return self.facts[USUAL][0]
        for part in (_COMMON, 1.0):  # of arrays that are nearly all zero, the rest counts
            left, total = part * self.count, 0.0
            for each, count in sorted(self.histogram.items()):
                taken = min(count, left)
                left -= taken
                total += 0.0 if each == ZERO else taken * 4.0 ** ((each + 0.5) / STEPS)
            if total:
                return float(np.sqrt(total / (part * self.count)))
        return 0.0

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

    number: its number.
    result: the output of the program with arrays that holds its result.
    needed: the choices by which elements of its result reach an output, or None where all may.
    start, names: where the numbers of its measure begin, and what they are.
    """

    number: int
    place: Place
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

    traced: the call.
    config: supplies the functions to replace.
    """

    def __init__(self, traced: Traced, config: Config) -> None:
        work = advance(begin(traced), "linearise")
        if any(rule.approx in NEED_TRAINING for rule in config.rules):
            work = advance(replace(work, config=config), "replace_functions")
        self._program, module = work.parts, work.module
        secret = visibility(module, self._program.public)
        *operations, end = ir.ops(ir.body(ir.main(module)))
        taken = ways(operations)
        self._seen: dict[str, Any] = {}  # the arguments of the last call, by path
        self._probes: list[_Probe] = []
        arrays: dict[ir.Value, int] = {}  # results and the booleans of choices, with their places as outputs
        numbers = _Numbers(module, end)
        for number, (op, kind) in enumerate(kinds(operations, lambda value: secret[value]).items()):
            floats = [*op.results, *(op.operands if kind is Kind.KERNEL else ())]
            if kind is Kind.PUBLIC or len(op.results) != 1 or not any(map(ir.is_float, floats)):
                continue
            found = taken[op.results[0]]
            for each in (op.results[0], *predicates(found)):
                arrays.setdefault(each, len(arrays))
            public = [each for each in op.operands if not secret[each]]
            reads = kind in _MEASURED or (kind is Kind.SCALE and any(map(of_any_size, public)))
            start, known = numbers.measure(op, kind, found, reads)
            needed = None if found is None else choices(found, arrays)
            place = ir.path_of(op), subject(op, kind)
            self._probes.append(_Probe(number, place, arrays[op.results[0]], needed, start, known))
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
        returned = ir.evaluate(self._with_arrays, values)
        numbers: Sequence[Any] = returned[: self._count]
        outputs: Sequence[Any] = returned[self._count :]
        for probe, _, facts in self._read(numbers):
            result = outputs[probe.result]
            if probe.needed is not None:
                result = result[np.asarray(mask(probe.needed, result.shape, outputs))]
            _join(found, probe.place, summary(result, facts))
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
    seen = Observed(low, high, int(magnitudes.size), histogram, facts or {})
    usual = seen.usual
    return replace(seen, facts={**seen.facts, USUAL: (usual, usual)}) if usual else seen
