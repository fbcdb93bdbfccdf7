"""Decide how the guard of a plan watches each value that may leave a range on which the plan relies.

The parties cannot see a value, but they can count wraps of products and casts, and compare sums and operands
of functions with the ends of their ranges. Nothing is watched where intervals prove that it stays in range,
given that everything before it did.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ditto_kernels.guard.element_guard import how_shown
from ditto_kernels.guard.product_guard import watched
from ditto_kernels.guard.range_guard import Range, coarse
from ditto_kernels.guard.spread_guard import admits
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import interval_of, record_of
from ditto_spu.ops.cast import ENCODED, LIFTED, Cast, is_cast, read_cast
from ditto_spu.ops.decision import Decision, Kind, read
from ditto_spu.ops.op import Call, Relied, Secret
from ditto_spu.ops.public_operands import constant
from ditto_spu.passes.analysis.needed import ways
from ditto_spu.passes.analysis.reach import reach
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.verify import product_room
from ditto_spu.spu import limits

_MOST = 7 / 8  # of a format's limit: beyond, a residue of the ring does not tell on which side a value was
DIVISOR = "divisor"  # the fact about the magnitude of a second operand
SPREADS = {"variance": True, "mean square": False}  # facts about rows, and whether their mean is left out
PRODUCTS = (Kind.MATMUL, Kind.MULTIPLY, Kind.SCALE)


@dataclass
class Guarding:
    """The values to watch. Products and casts are named by their results, before any cast of them.

    wraps: results of products and of casts into smaller rings whose wraps are counted. Each comes with the
        magnitude from which on it is refused, if its ring is too small to hold wraps.
    tests: values that are compared with a range, and perhaps with a least magnitude.
    spreads: rows of which the variance (True) or the mean square (False) has a limit.
    by_chance: those of them that may have wrapped into their range again.
    unseen: values that may leave their range, which nothing finds.
    bounds: an interval for each value, which holds if nothing is unseen and the guard finds nothing.
    """

    wraps: dict[ir.Value, float] = field(default_factory=dict)
    tests: dict[ir.Value, Range] = field(default_factory=dict)
    spreads: dict[ir.Value, tuple[float, bool]] = field(default_factory=dict)
    by_chance: set[ir.Value] = field(default_factory=set)
    unseen: set[ir.Value] = field(default_factory=set)
    bounds: dict[ir.Value, ir.Interval] = field(default_factory=dict)

    @property
    def taken(self) -> set[ir.Value]:
        """The values that the guard reads beside operands and results of kernels."""
        makers = [ir.define(value) for value in self.wraps]
        scales = [each for each in makers if each is not None and _kind(each) is Kind.SCALE]
        return {*self.tests, *self.spreads, *(value for op in scales for value in op.operands)}


def _kind(op: ir.Op) -> Kind | None:
    decision = read(op)
    return None if decision is None else decision.kind


def guarding(module: ir.Module, public: Sequence[bool]) -> Guarding:
    """Return what the guard watches in a module that has casts.

    public: whether each argument of @main is public.
    """
    secret = visibility(module, public)
    operations = ir.ops(ir.body(ir.main(module)))
    whole = {value for value, found in ways(operations[:-1]).items() if found is None}
    needs = _needs(operations, secret.__getitem__, whole)
    state = _State(secret.__getitem__, needs, whole, Guarding())
    ir.intervals(module, interval_of, is_cast, state.settle)
    return state.made


def meeting(one: ir.Interval, other: ir.Interval) -> ir.Interval:
    """Return the interval of the values in both."""
    return max(one[0], other[0]), min(one[1], other[1])


def largest(interval: ir.Interval) -> float:
    """Return the largest magnitude in an interval."""
    return max(-interval[0], interval[1])


def _within(bound: float) -> ir.Interval:
    return -bound, bound


def _holds(outer: ir.Interval, inner: ir.Interval) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _needs(
    operations: Sequence[ir.Op], secret: Secret, whole: Collection[ir.Value]
) -> dict[ir.Value, ir.Interval]:
    """Return the range in which each value has to lie for all that read it.

    whole: the values of which every element may reach an output.
    """
    needs: dict[ir.Value, ir.Interval] = {}
    for op in operations:
        for value, need in _needed(op, secret):
            if ir.is_float(value) and secret(value) and value in whole:
                needs[value] = meeting(needs.get(value, ir.EVERYTHING), need)
    return needs


def _needed(op: ir.Op, secret: Secret) -> Iterator[tuple[ir.Value, ir.Interval]]:
    """Yield the ranges in which an operation needs its operands."""
    decision = read(op)
    if is_cast(op):
        cast = read_cast(op)
        if (source := cast.source_format) is not None:
            yield op.operands[0], _within(_cast_room(cast, source))
    elif decision is None:  # the outputs
        for value in op.operands:
            fxp = _format_of(value)
            if fxp is not None:
                yield value, _within(fxp.limit / 2)
    elif decision.kind is Kind.KERNEL:
        yield from _of_kernel(op, decision, secret)


def _is_free(cast: Cast, source: Fxp) -> bool:
    """Tell whether a cast is local: it goes to a smaller ring, and drops no more bits than that."""
    dropped = source.fraction_bits - cast.target.fraction_bits
    return 0 <= dropped <= source.ring_bits - cast.target.ring_bits and cast.target != source


def _cast_room(cast: Cast, source: Fxp) -> float:
    """Return the magnitude that a cast takes. One that is free is watched by its result."""
    dropped = source.fraction_bits - cast.target.fraction_bits
    masked = not _is_free(cast, source) and (dropped > 0 or cast.target.ring_bits > source.ring_bits)
    room = source.limit / 2 if masked else math.inf
    return min(room, cast.target.limit / 2) if dropped < 0 else room


def _of_kernel(op: ir.Op, decision: Decision, secret: Secret) -> Iterator[tuple[ir.Value, ir.Interval]]:
    record, call = record_of(op, decision.kind), Call(op, decision, secret, reach)
    assert record is not None
    formats = decision.operands or ()
    for place, (value, fxp) in enumerate(zip(op.operands, formats, strict=False)):
        if fxp is not None and ir.is_float(value) and secret(value):
            yield value, _within(fxp.limit / 2 if place else record.room(call, fxp))
    if not any(fxp is not None for fxp in formats):
        return
    for each in record.relies_on(call):
        place = {"operand": 0, "second": 1}.get(each.fact)
        if place is not None:
            yield op.operands[place], (each.low, each.high)


def _format_of(value: ir.Value) -> Fxp | None:
    """Return the format of a shared value, or None for an argument before it has one."""
    maker = ir.define(value)
    if maker is None:
        return None
    if is_cast(maker):
        return read_cast(maker).target
    decision = read(maker)
    return None if decision is None or decision.format is None else decision.computed


@dataclass
class _State:
    """The pass over a module, in order. `settle` is called for each operation that returns numbers."""

    secret: Secret
    needs: dict[ir.Value, ir.Interval]
    whole: Collection[ir.Value]
    made: Guarding

    def settle(self, op: ir.Op, found: ir.Interval) -> ir.Interval:
        """Decide about the result of an operation, and return the interval in which it lies then."""
        self.made.bounds[op.results[0]] = found = self._settled(op, found)
        return found

    def _settled(self, op: ir.Op, found: ir.Interval) -> ir.Interval:
        value, decision = op.results[0], read(op)
        if not self.secret(value):
            return found
        if is_cast(op):
            return self._cast(op, read_cast(op), found)
        fxp = _format_of(value)
        if decision is None or fxp is None:
            return found
        if decision.kind is Kind.KERNEL:
            self._read_by_kernel(op, decision)
        if decision.kind is Kind.SPU:
            self.made.unseen.add(value)
            return meeting(found, _within(limits.RESULT))
        if decision.kind in PRODUCTS:
            return self._product(op, decision, found)
        if decision.kind in (Kind.LOCAL, Kind.RETAG):
            return self._tested(value, fxp, found)
        return self._of_function(op, decision, fxp, found)

    def _tested(self, value: ir.Value, fxp: Fxp, found: ir.Interval) -> ir.Interval:
        """Compare a value with what its readers need, unless it lies there in any case."""
        need = meeting(self.needs.get(value, ir.EVERYTHING), _within(fxp.limit * _MOST))
        if value not in self.needs or _holds(self.needs[value], found):
            return found
        if found[0] >= need[0]:  # the lower end is proven, and a symmetric range takes a tenth of the bytes
            need = _within(need[1])
        self.made.tests[value] = need
        if largest(found) + largest(need) >= 2 * fxp.limit:
            self.made.by_chance.add(value)
        return meeting(found, need)

    def _read_by_kernel(self, op: ir.Op, decision: Decision) -> None:
        """Watch what a kernel needs of its operands beyond their ends: divisors that are not 0, and rows."""
        record, formats = record_of(op, decision.kind), decision.operands or ()
        assert record is not None
        if not any(fxp is not None for fxp in formats):
            return
        for each in record.relies_on(Call(op, decision, self.secret, reach)):
            if each.fact == DIVISOR:
                self._divisor(op.operands[1], formats[1], each)
            elif each.fact in SPREADS and (fxp := formats[0]) is not None:
                self._rows(op.operands[0], fxp, each)

    def _divisor(self, value: ir.Value, fxp: Fxp | None, relied: Relied) -> None:
        low, high = self.made.bounds.get(value, ir.EVERYTHING)
        if fxp is None or not self.secret(value) or low >= relied.low or high <= -relied.low:
            return
        if value in self.whole:
            ends = self.made.tests.get(value, _within(min(relied.high, fxp.limit / 2)))
            self.made.tests[value] = (*ends[:2], relied.low)

    def _rows(self, value: ir.Value, fxp: Fxp, relied: Relied) -> None:
        """Limit the variance or the mean square of rows, unless their elements are small enough."""
        low, high = self.made.bounds.get(value, ir.EVERYTHING)
        centred = SPREADS[relied.fact]
        most = (high - low) / 2 if centred else largest((low, high))
        if self.secret(value) and most**2 > relied.high and admits(ir.shape(value)[-1], fxp, relied.high):
            self.made.spreads[value] = (relied.high, centred)

    def _cast(self, op: ir.Op, cast: Cast, found: ir.Interval) -> ir.Interval:
        value, target = op.results[0], cast.target
        need = self.needs.get(value, ir.EVERYTHING)
        if cast.source == ENCODED:  # owners check it
            return meeting(meeting(found, need), _within(target.limit / 2))
        if cast.source == LIFTED:
            return meeting(found, _within(target.limit))
        source = cast.source_format
        assert source is not None
        if (
            _is_free(cast, source)
            and largest(found) >= target.limit
            and op.operands[0] not in self.made.wraps
        ):
            plain = how_shown(Spec(ir.shape(value), source), None, Spec(ir.shape(value), target))
            if plain is None:
                self.made.unseen.add(value)
            else:
                self.made.wraps[value] = _bound(need, target)
        counted = op.operands[0] if _is_free(cast, source) and op.operands[0] in self.made.wraps else value
        bound = self.made.wraps.get(counted, target.limit)
        return self._tested(value, target, meeting(found, _within(bound)))

    def _product(self, op: ir.Op, decision: Decision, found: ir.Interval) -> ir.Interval:
        """Count the wraps of a product that may leave its room, if they show in what it is cast to."""
        value, fxp = op.results[0], decision.computed
        room = fxp.limit if decision.natural is None else product_room(fxp, decision.out)
        users = ir.users(value)
        cast = users[0] if decision.natural is not None and len(users) == 1 and is_cast(users[0]) else None
        need = ir.EVERYTHING if cast is None else self.needs.get(cast.results[0], ir.EVERYTHING)
        if largest(found) < min(room, largest(need)):
            return found
        if cast is not None and self._shows(op, decision, decision.out):
            self.made.wraps[value] = _bound(need, decision.out)
        elif decision.kind is Kind.SCALE and (bound := _largest_factor(op, self.secret)):
            operand = next(each for each in op.operands if self.secret(each))
            self.made.tests[operand] = meeting(
                self.made.tests.get(operand, ir.EVERYTHING), _within(room / bound)
            )
        elif largest(found) >= room:
            self.made.unseen.add(value)
        return meeting(found, _within(room))

    def _shows(self, op: ir.Op, decision: Decision, out: Fxp) -> bool:
        """Tell whether the wraps of a product show."""
        specs = [self._spec(each, place, decision) for place, each in enumerate(op.operands)]
        y = Spec(ir.shape(op.results[0]), out)
        if decision.kind is Kind.SCALE:
            assert decision.factor is not None
            x, w = specs if specs[0].fxp is not None else specs[::-1]
            return how_shown(x, w, y, weight_fraction_bits=decision.factor.fraction_bits) is not None
        record = record_of(op, decision.kind)
        assert record is not None
        call = record.kernel_call(Call(op, decision, self.secret))
        attributes = dict(call.attributes)
        if decision.kind is Kind.MULTIPLY:
            return how_shown(*specs, y, **attributes) is not None
        if call.kernel == "matmul_adapted":
            return False
        ordered = [specs[list(op.operands).index(each)] for each in call.operands]
        return watched(*ordered, y, **attributes) is not None

    def _spec(self, value: ir.Value, place: int, decision: Decision) -> Spec:
        fxp = decision.operands[place] if decision.operands is not None and self.secret(value) else None
        return Spec(ir.shape(value), fxp)

    def _of_function(self, op: ir.Op, decision: Decision, fxp: Fxp, found: ir.Interval) -> ir.Interval:
        """A function that follows a curve is as large as its operand at most. Others fit by assumption."""
        record, value = record_of(op, decision.kind), op.results[0]
        if record is not None and record.window is not None:
            most = max(1.0, largest(self.made.bounds.get(op.operands[0], ir.EVERYTHING)))
            found = meeting(found, _within(most))
        if largest(found) >= fxp.limit / 2:
            self.made.unseen.add(value)
        return self._tested(value, fxp, meeting(found, _within(fxp.limit / 2)))


def _bound(need: ir.Interval, fxp: Fxp) -> float:
    """Return the magnitude from which on a value of a narrow format is refused."""
    bound = min(-need[0], need[1], fxp.limit)
    return bound if coarse(_within(bound), fxp) else fxp.limit


def _largest_factor(op: ir.Op, secret: Secret) -> float | None:
    known = next((constant(each) for each in op.operands if not secret(each)), None)
    if known is None or not np.size(known):
        return None
    bound = float(np.max(np.abs(np.asarray(known, np.float64))))
    return bound if math.isfinite(bound) and bound > 0 else None
