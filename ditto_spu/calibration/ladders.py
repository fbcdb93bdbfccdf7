"""Hold the step that every place of a program has reached on the ladder of its formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.places import Place, grouped
from ditto_spu.ops import OPS
from ditto_spu.ops.op import Choice
from ditto_spu.ops.tries import Rung
from ditto_spu.rules.rule import INPUT, TAKES, WEIGHT, Rule, literal

USUAL = Fxp(32, 11)  # the format of values that need neither more bits nor more room
FINEST = 16  # the most fraction bits of a value in the ring of USUAL
FINEST_WEIGHT = 20  # the same for weights
ALL = 99  # more steps than a ladder has
FINEST_WIDE, SPARE = 30, 6  # the same in ring 64, where bits beyond those that are needed cost nothing
MARGIN = 1.0  # bits between observed values and the ends of ranges: unseen values may be twice as large


Need = tuple[int, float]  # the fraction bits that values need, and the largest magnitude of them


def _finest(fxp: Fxp, bits: int, largest: float) -> Fxp:
    """Return a format in the same ring that has the bits, and more than these, if it holds the values."""
    finer = Fxp(fxp.ring_bits, min(bits + SPARE, FINEST_WIDE))
    return finer if bits > fxp.fraction_bits and largest * 2**MARGIN < finer.limit / 2 else fxp


@dataclass
class Ladders:
    """The present step of every place.

    wide: the format behind the last step.
    left: the steps of each place that are left, the present one first. None are left where it is wide.
    finer: the formats of results that need more fraction bits than USUAL has.
    weights: the formats of weights that need more fraction bits than the first step gives. It is None where
        the product had no room for them.
    widest: what stands behind the last step of a place whose values need other bits than `wide` has.
    """

    wide: Fxp
    left: dict[Place, tuple[Rung, ...]] = field(default_factory=dict)
    finer: dict[Place, Fxp] = field(default_factory=dict)
    weights: dict[Place, Fxp | None] = field(default_factory=dict)
    widest: dict[Place, Rung] = field(default_factory=dict)

    def meet(self, place: Place, op: ir.Op | None, known: bool) -> None:
        """Put a place at the foot of its ladder if it is new, or behind the last step.

        op: the operation, or None for an argument.
        known: whether its values were observed.
        """
        if place in self.left:
            return
        record = OPS.get(place.op)
        if not known:
            self.left[place] = ()
        elif record is not None and op is not None and record.search.ladder is not None:
            self.left[place] = record.search.ladder(op)
        else:
            inexact = record is not None and record.sample is not None
            self.left[place] = () if inexact else (Rung(),)

    def at(self, place: Place) -> Rung:
        """Return the present step of a place."""
        left, record = self.left[place], OPS.get(place.op)
        if left:
            return left[0]
        if place in self.widest:
            return self.widest[place]
        wide = Choice(self.wide, None, None, None, None, None, frozenset())
        operand = None if record is None else record.wish(wide)
        return Rung(format=self.wide, operand=operand or self.wide, weight=self.wide)

    def climb(self, place: Place, steps: int = 1) -> bool:
        """Take the next steps of a place. Returns whether there was one."""
        left = self.left.get(place, ())  # SPU's operations have no ladder
        if left:
            self.left[place] = left[steps:]
            self.weights[place] = None
        return bool(left)

    def refine_weight(self, place: Place, bits: int) -> bool:
        """Give the weights of a product more fraction bits, or widen it. Returns whether it changed."""
        if place in self.weights or bits > FINEST_WEIGHT:
            return self.climb(place, ALL)
        self.weights[place] = Fxp(USUAL.ring_bits, bits)
        return True

    def refine(self, place: Place, bits: int, largest: float) -> bool:
        """Give the result of a place more fraction bits than it has. Returns whether this was possible."""
        finer = Fxp(USUAL.ring_bits, min(bits, FINEST))
        fits = bits <= FINEST and largest * 2**MARGIN < finer.limit / 2
        if fits and self.left[place] and self.at(place).format is None and self.finer.get(place) != finer:
            self.finer[place] = finer
            return True
        return self.climb(place)

    def refine_widest(self, place: Place, result: Need, operand: Need = (0, 0.0)) -> bool:
        """Give more fraction bits to a place behind its last step, once. Returns whether it got some."""
        rung = self.at(place)
        assert rung.format is not None and rung.operand is not None
        finer = replace(rung, format=_finest(rung.format, *result), operand=_finest(rung.operand, *operand))
        if finer == rung or place in self.widest:
            return False
        self.widest[place] = finer
        return True

    def coarsen(self, place: Place, bits: int, least: int, operand: bool) -> bool:
        """Take fraction bits from a place behind its last step. Returns whether it did.

        bits: how many to take. least: how many have to be left. operand: whether they are those of the left
            factor of a product, and not of the result.
        """
        if self.left.get(place, ALL):  # SPU's operations have no ladder
            return False
        rung = self.at(place)
        fxp = rung.operand if operand else rung.format
        if fxp is None or fxp.fraction_bits - bits < max(least, 0):
            return False
        coarser = Fxp(fxp.ring_bits, fxp.fraction_bits - bits)
        self.widest[place] = replace(rung, operand=coarser) if operand else replace(rung, format=coarser)
        return True

    def rules(self) -> Iterator[Rule]:
        """Yield the rules that stand for the present steps, one for all places on the same step."""
        rungs, weights = {}, {}
        for place, left in self.left.items():
            rung = self.at(place)
            finer = self.finer.get(place) if left else None
            rungs[place] = replace(rung, format=finer or rung.format, weight=None)
            if rung.weight is not None and place.op != INPUT and OPS[place.op].search.products:
                weights[place._replace(op=WEIGHT)] = Rung(format=self.weights.get(place) or rung.weight)
        groups: dict[tuple[str, tuple[tuple[str, Any], ...], Rung], list[str]] = {}
        for each, rung in (*grouped(rungs), *grouped(weights)):
            groups.setdefault((each.op, tuple(each.numbers.items()), rung), []).append(each.path)
        for (op, numbers, rung), paths in sorted(groups.items(), key=lambda group: not group[0][1]):
            values = {name: value for name in TAKES[op] if (value := getattr(rung, name, None)) is not None}
            if values:
                path = "|".join(map(literal, paths))
                yield Rule(path=path, op=(op,), **dict(numbers), optional=True, **values)
