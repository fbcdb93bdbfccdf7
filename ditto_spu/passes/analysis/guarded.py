"""Decide how the guard of a plan watches each value that may leave a range on which the plan relies.

The parties cannot see a value, but they can count wraps of products and casts, and compare sums and operands
of functions with the ends of their ranges. Nothing is watched where intervals prove that it stays in range,
given that everything before it did.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ditto_kernels.guard.element_guard import how_shown
from ditto_kernels.guard.range_guard import Range, coarse
from ditto_kernels.guard.spread_guard import admits
from ditto_kernels.guard.watched_product import Watched, watched
from ditto_kernels.guard.wraps import Shown
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import intervals, record_of
from ditto_spu.ops.cast import ENCODED, LIFTED, Cast, is_cast, read_cast
from ditto_spu.ops.decision import Decision, Kind, read
from ditto_spu.ops.op import Call, KernelCall, Relied, Secret
from ditto_spu.ops.public_operands import constant
from ditto_spu.passes.analysis.needed import ways
from ditto_spu.passes.analysis.needed_ranges import (
    format_of,
    holds,
    is_free,
    largest,
    meeting,
    needs_of,
    within,
)
from ditto_spu.passes.analysis.reach import reach
from ditto_spu.passes.analysis.repeated_row import repeated_row
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.formats.verify import product_room
from ditto_spu.spu import limits

_MOST = 7 / 8  # of a format's limit: beyond, a residue of the ring does not tell on which side a value was
# Whoever shares an array checks it, the guard finds a value for certain or by chance, or nobody does.
WATCHERS = ("owner", "guard", "chance", "nobody")
VALUES = ("", "operand", "second")  # facts about a value itself
DIVISOR = "divisor"  # the fact about the magnitude of a second operand
SPREADS = {"variance": True, "mean square": False}  # facts about rows, and whether their mean is left out
PRODUCTS = (Kind.MATMUL, Kind.MULTIPLY, Kind.SCALE)


@dataclass(frozen=True)
class Scaled:
    """A product with a public value: the secret operand and the public one, and the factor's format."""

    operands: tuple[ir.Value, ir.Value]
    factor: Fxp

    @property
    def attribute(self) -> tuple[str, int]:
        """The attribute that says how the factor is encoded."""
        return "weight_fraction_bits", self.factor.fraction_bits


@dataclass
class Guarding:
    """The values to watch. Products and casts are named by their results, before any cast of them.

    wraps: results of products and of casts into smaller rings whose wraps are counted. Each comes with the
        magnitude from which on it is refused, if its ring is too small to hold wraps.
    shifted: products whose results are watched after the same row was added to each of their rows: the sum,
        and the row. The magnitude in `wraps` is about the sum.
    tests: values that are compared with a range, and perhaps with a least magnitude.
    spreads: rows of which the variance (True) or the mean square (False) has a limit.
    scaled: those of the products that have a public factor.
    by_chance: those of the tested values that may have wrapped into their range again.
    unseen: values that may leave their range, which nothing finds.
    bounds: an interval for each value, which holds if nothing is unseen and the guard finds nothing.
    """

    wraps: dict[ir.Value, float] = field(default_factory=dict)
    shifted: dict[ir.Value, tuple[ir.Value, ir.Value]] = field(default_factory=dict)
    tests: dict[ir.Value, Range] = field(default_factory=dict)
    spreads: dict[ir.Value, tuple[float, bool]] = field(default_factory=dict)
    scaled: dict[ir.Value, Scaled] = field(default_factory=dict)
    by_chance: set[ir.Value] = field(default_factory=set)
    unseen: set[ir.Value] = field(default_factory=set)
    bounds: dict[ir.Value, ir.Interval] = field(default_factory=dict)

    def watches(self, value: ir.Value, relied: ir.Interval, fact: str) -> str:
        """Tell who finds that a quantity leaves a range: one of WATCHERS.

        value: what the quantity is about. fact: its name; '' for the value itself.
        """
        low, high = self.bounds.get(value, ir.EVERYTHING)
        if fact in SPREADS:
            most = (high - low) / 2 if SPREADS[fact] else largest((low, high))
            return "guard" if most**2 <= relied[1] else "chance" if value in self.spreads else "nobody"
        if fact == DIVISOR:
            apart = low >= relied[0] or high <= -relied[0] or len(self.tests.get(value, ())) == 3
            return "guard" if apart and largest((low, high)) <= relied[1] else "nobody"
        if fact not in VALUES or value in self.unseen or not holds(relied, (low, high)):
            return "nobody"
        maker = ir.define(value)
        if maker is not None and is_cast(maker) and read_cast(maker).source == ENCODED:
            return "owner"
        return "chance" if value in self.by_chance else "guard"

    @property
    def taken(self) -> set[ir.Value]:
        """The values that the guard reads beside operands and results of kernels."""
        return {
            *self.tests,
            *self.spreads,
            *(value for pair in self.shifted.values() for value in pair),
            *(value for each in self.scaled.values() for value in each.operands),
        }


def guarding(module: ir.Module, public: Sequence[bool]) -> Guarding:
    """Return what the guard watches in a module that has casts.

    public: whether each argument of @main is public.
    """
    secret = visibility(module, public)
    operations = ir.ops(ir.body(ir.main(module)))
    whole = {value for value, found in ways(operations[:-1]).items() if found is None}
    needs = needs_of(operations, secret.__getitem__, whole)
    state = _State(secret.__getitem__, needs, whole, Guarding())
    intervals(module, state.settle)
    return state.made


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
        fxp = format_of(value)
        if decision is None or fxp is None:
            return found
        if decision.kind is Kind.KERNEL:
            self._read_by_kernel(op, decision)
        if decision.kind is Kind.SPU:
            self.made.unseen.add(value)
            return meeting(found, within(limits.RESULT))
        if decision.kind in PRODUCTS:
            return self._product(op, decision, found)
        if decision.kind in (Kind.LOCAL, Kind.RETAG):
            found = self._tested(value, fxp, found)
            self._shifted(op, fxp)
            return found
        return self._of_function(op, decision, fxp, found)

    def _tested(self, value: ir.Value, fxp: Fxp, found: ir.Interval) -> ir.Interval:
        """Compare a value with what its readers need, unless it lies there in any case."""
        need = meeting(self.needs.get(value, ir.EVERYTHING), within(fxp.limit * _MOST))
        if value not in self.needs or holds(self.needs[value], found):
            return found
        if found[0] >= max(need[0], -need[1]):  # a symmetric range takes a tenth of the bytes, or less
            need = within(need[1])
        self.made.tests[value] = need
        if largest(found) + largest(need) >= 2 * fxp.limit:
            self.made.by_chance.add(value)
        return meeting(found, need)

    def _shifted(self, op: ir.Op, fxp: Fxp) -> None:
        """Test a product and the sum with its bias at once, where both would be brought to their cells."""
        value = op.results[0]
        if op.name != "stablehlo.add" or value not in self.made.tests:
            return
        range = self.made.tests[value]
        for result, other in (op.operands, op.operands[::-1]):
            row = repeated_row(other)
            if row is None or format_of(row) != fxp or format_of(result) != fxp or not coarse(range, fxp):
                continue
            product = self._lifted(result)
            if product is not None and largest(self.made.bounds.get(row, ir.EVERYTHING)) <= fxp.limit / 2:
                self.made.wraps[product] = self.made.tests.pop(value)[1]
                self.made.shifted[product] = (value, row)
                self.made.by_chance.discard(value)
                return

    def _lifted(self, result: ir.Value) -> ir.Value | None:
        """Return the product behind a cast whose elements are lifted, if nothing else reads them."""
        cast = ir.define(result)
        if cast is None or not is_cast(cast) or len(ir.users(result)) > 1:
            return None
        product = ir.define(cast.operands[0])
        if product is None or cast.operands[0] not in self.made.wraps:
            return None
        decision = read(product)
        if decision is None or decision.kind is not Kind.MATMUL:
            return None
        found = self._watched(product, decision, decision.out)
        one_row = found is not None and found.how.lifted and found.summed == ir.shape(result)[-1]
        return cast.operands[0] if one_row else None

    def _read_by_kernel(self, op: ir.Op, decision: Decision) -> None:
        """Watch what a kernel needs of its operands beyond their ends: divisors that are not 0, and rows."""
        record, formats = record_of(op, decision.kind), decision.operands or ()
        assert record is not None
        if op.results[0] not in self.whole or not any(fxp is not None for fxp in formats):
            return
        for each in record.relies_on(Call(op, decision, self.secret, reach)):
            if each.fact == DIVISOR:
                self._divisor(op.operands[1], formats[1], each)
            elif each.fact in SPREADS and (fxp := formats[0]) is not None:
                self._rows(op.operands[0], fxp, each)

    def _divisor(self, value: ir.Value, fxp: Fxp | None, relied: Relied) -> None:
        """Refuse divisors whose magnitude is too small or too large."""
        found = self.made.bounds.get(value, ir.EVERYTHING)
        apart = found[0] >= relied.low or found[1] <= -relied.low
        fits = largest(found) <= relied.high
        if fxp is None or not self.secret(value) or (apart and fits):
            return
        ends = meeting(self.made.tests.get(value, ir.EVERYTHING)[:2], within(min(relied.high, fxp.limit / 2)))
        self.made.tests[value] = ends if apart else (*ends, relied.low)
        self.made.bounds[value] = meeting(found, ends)

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
            return meeting(meeting(found, need), within(target.limit / 2))
        if cast.source == LIFTED:
            return meeting(found, within(target.limit))
        source = cast.source_format
        assert source is not None
        if is_free(cast, source) and largest(found) >= target.limit and op.operands[0] not in self.made.wraps:
            plain = how_shown(Spec(ir.shape(value), source), None, Spec(ir.shape(value), target))
            if plain is None:
                self.made.unseen.add(value)
            else:
                self.made.wraps[value] = _bound(need, target)
        counted = op.operands[0] if is_free(cast, source) and op.operands[0] in self.made.wraps else value
        bound = self.made.wraps.get(counted, target.limit)
        return self._tested(value, target, meeting(found, within(bound)))

    def _product(self, op: ir.Op, decision: Decision, found: ir.Interval) -> ir.Interval:
        """Count the wraps of a product that may leave its room, if they show in what it is cast to."""
        value, fxp = op.results[0], decision.computed
        room = fxp.limit if decision.natural is None else product_room(fxp, decision.out)
        users = ir.users(value)
        cast = users[0] if decision.natural is not None and len(users) == 1 and is_cast(users[0]) else None
        need = ir.EVERYTHING if cast is None else self.needs.get(cast.results[0], ir.EVERYTHING)
        narrow = cast is not None and is_free(read_cast(cast), fxp)
        if largest(found) < (min(room, largest(need)) if narrow else room):
            return found
        if cast is not None and self._how(op, decision, decision.out) is not None:
            self.made.wraps[value] = _bound(need, decision.out)
            if decision.kind is Kind.SCALE:
                assert decision.factor is not None
                secret, public = sorted(op.operands, key=lambda each: not self.secret(each))
                self.made.scaled[value] = Scaled((secret, public), decision.factor)
        elif decision.kind is Kind.SCALE and (bound := _largest_factor(op, self.secret)):
            operand = next(each for each in op.operands if self.secret(each))
            self.made.tests[operand] = meeting(
                self.made.tests.get(operand, ir.EVERYTHING)[:2], within(room / bound)
            )
        elif largest(found) >= room:
            self.made.unseen.add(value)
        return meeting(found, within(room))

    def _how(self, op: ir.Op, decision: Decision, out: Fxp) -> Shown | None:
        """Return how the wraps of a product show, or None."""
        specs = [self._spec(each, place, decision) for place, each in enumerate(op.operands)]
        y = Spec(ir.shape(op.results[0]), out)
        if decision.kind is Kind.SCALE:
            assert decision.factor is not None
            x, w = specs if specs[0].fxp is not None else specs[::-1]
            return how_shown(x, w, y, weight_fraction_bits=decision.factor.fraction_bits)
        if decision.kind is Kind.MULTIPLY:
            return how_shown(specs[0], specs[1], y, **self._call(op, decision)[1])
        found = self._watched(op, decision, out)
        return None if found is None else found.how

    def _watched(self, op: ir.Op, decision: Decision, out: Fxp) -> Watched | None:
        """Return how to watch a product of matrices, or None."""
        call, attributes = self._call(op, decision)
        if call.kernel == "matmul_adapted":
            return None
        places = (list(op.operands).index(each) for each in call.operands)
        x, w = (self._spec(op.operands[place], place, decision) for place in places)
        return watched(x, w, Spec(ir.shape(op.results[0]), out), **attributes)

    def _call(self, op: ir.Op, decision: Decision) -> tuple[KernelCall, dict[str, Any]]:
        record = record_of(op, decision.kind)
        assert record is not None
        call = record.kernel_call(Call(op, decision, self.secret))
        return call, dict(call.attributes)

    def _spec(self, value: ir.Value, place: int, decision: Decision) -> Spec:
        fxp = decision.operands[place] if decision.operands is not None and self.secret(value) else None
        return Spec(ir.shape(value), fxp)

    def _of_function(self, op: ir.Op, decision: Decision, fxp: Fxp, found: ir.Interval) -> ir.Interval:
        """A function that follows a curve is as large as its operand at most. Others fit by assumption."""
        record, value = record_of(op, decision.kind), op.results[0]
        if record is not None and record.window is not None:
            most = max(1.0, largest(self.made.bounds.get(op.operands[0], ir.EVERYTHING)))
            found = meeting(found, within(most))
        if largest(found) >= fxp.limit / 2:
            self.made.unseen.add(value)
        return self._tested(value, fxp, meeting(found, within(fxp.limit / 2)))


def _bound(need: ir.Interval, fxp: Fxp) -> float:
    """Return the magnitude from which on a value of a narrow format is refused."""
    bound = min(-need[0], need[1], fxp.limit)
    return bound if coarse(within(bound), fxp) else fxp.limit


def _largest_factor(op: ir.Op, secret: Secret) -> float | None:
    known = next((constant(each) for each in op.operands if not secret(each)), None)
    if known is None or not np.size(known):
        return None
    bound = float(np.max(np.abs(np.asarray(known, np.float64))))
    return bound if math.isfinite(bound) and bound > 0 else None
