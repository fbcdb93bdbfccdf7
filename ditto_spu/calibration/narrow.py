"""Choose narrow formats where a calibration knows the values.

Operations start with the cheapest formats that their records offer. Where observed values do not fit, or
would be rounded too much, an operation climbs to wider ones. Behind the last step of its ladder stands the
default of the configuration, which needs no knowledge of values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ditto_spu import ir
from ditto_spu.calibration.fraction_bits import bits_for, needed_bits, usual_size
from ditto_spu.calibration.headroom import Range
from ditto_spu.calibration.known import Known
from ditto_spu.calibration.ladders import ALL, MARGIN, USUAL, Ladders
from ditto_spu.calibration.places import Place, place_of
from ditto_spu.calibration.relied_on import observed_arguments, observed_operations
from ditto_spu.calibration.summary import Observed
from ditto_spu.errors import DittoError
from ditto_spu.ops import OPS
from ditto_spu.ops.decision import Kind, decided, read, read_entry
from ditto_spu.ops.public_operands import largest
from ditto_spu.passes.pipeline import Work, advance
from ditto_spu.rules.rule import INPUT, Config

_TURNS = 16  # more than the steps of any ladder
SPARED_BITS = 12  # a factor that gives bits to the room of its product keeps so many for its usual size
_PRODUCTS = (Kind.MATMUL, Kind.MULTIPLY, Kind.SCALE)
_RULED = (Kind.MATMUL, Kind.MULTIPLY, Kind.KERNEL, Kind.SCALE, Kind.RETAG)


def narrow(config: Config, linear: Work, known: Known) -> Config:
    """Return the configuration with rules for narrow formats behind its own.

    It is returned unchanged where no narrow formats hold the observed values.

    linear: the program after the pass `linearise`.
    """
    ladders = Ladders(config.default_format)
    description = f"{config.name}, with formats chosen from a calibration"
    plain = replace(config, default_format=USUAL, description=description)
    for _ in range(_TURNS):
        chosen = replace(plain, rules=(*config.rules, *ladders.rules()))
        try:
            program = _Program(advance(replace(linear, config=chosen), "assign"), known)
        except (DittoError, ValueError):  # a kernel raises ValueError if no plan of its own serves
            return config
        if not (program.meet(ladders) or program.make_room(ladders) or program.refine(ladders)):
            return config if program.overflows else chosen
    return config


class _Program:
    """A program with formats, and what a calibration says about it."""

    def __init__(self, assigned: Work, known: Known) -> None:
        checked = advance(assigned, "verify")
        parts = checked.parts
        self._module = assigned.module  # the operations live as long as the module
        *operations, self._return = ir.ops(ir.body(ir.main(assigned.module)))
        self._operations = [op for op in operations if read(op) is not None]
        self._makers = {op.results[0]: op for op in self._operations}
        self._formats = {op.results[0]: decided(op).out for op in self._operations}
        self._places = {op.results[0]: place_of(op) for op in self._operations}
        self._seen: dict[ir.Value, Observed | None] = {
            op.results[0]: seen for op, seen in zip(operations, known.operations, strict=True) if op.results
        }
        self._arguments: list[ir.Value] = []  # those that are shared as fixed-point numbers
        entry = read_entry(assigned.module)
        values = ir.arguments(assigned.module)
        for number, (value, path, fxp) in enumerate(zip(values, parts.paths, entry.formats, strict=True)):
            if fxp is not None and ir.is_float(value):
                self._arguments.append(value)
                self._places[value] = Place(*entry.prepared.get(number, (INPUT, path)))
                self._formats[value], self._seen[value] = fxp, known.argument(path)
        of_operations = observed_operations(checked.module, parts.public, known)
        self._ranges = [
            *((values[place], row) for place, row in observed_arguments(checked.module, parts.paths, known)),
            *((operations[number].results[0], row) for number, row in of_operations),
        ]

    @property
    def overflows(self) -> bool:
        """Whether an observed value lies outside of a range."""
        return any(row.headroom is not None and row.headroom < 0 for _, row in self._ranges)

    def meet(self, ladders: Ladders) -> bool:
        """Put every new place at the foot of its ladder. Returns whether there was one."""
        met = len(ladders.left)
        for op in self._operations:
            if decided(op).kind in _RULED:
                ladders.meet(place_of(op), op, self._seen[op.results[0]] is not None)
        for value in self._arguments:
            ladders.meet(self._places[value], None, known=True)
        return len(ladders.left) > met

    def make_room(self, ladders: Ladders) -> bool:
        """Let places climb until values have room in every range. Returns whether one did.

        A range that a kernel was told waits until what computes the operand has room.
        """
        steps: dict[Place, int] = {}
        for value, row in sorted(self._ranges, key=lambda each: each[1].told):
            if row.headroom is not None and row.headroom < MARGIN and not row.safe:
                sources = self._sources(self._makers[value].operands[0]) if row.told else ()
                if any(place in steps for place in sources):
                    continue
                for place, count in self._causes(ladders, value, row, row.headroom):
                    steps[place] = max(count, steps.get(place, 0))
        for op in self._operations:
            if self._beside_too_large(op):
                steps |= dict.fromkeys(self._sources(op.results[0]), ALL)
        climbed = [ladders.climb(place, count) for place, count in steps.items()]
        if any(climbed):
            return True
        coarser = [self._coarsen(ladders, value, row) for value, row in self._ranges]
        return any(coarser)

    def _coarsen(self, ladders: Ladders, value: ir.Value, row: Range) -> bool:
        """Take bits from what a product in ring 64 reads, where it lacks room and values spare bits."""
        if row.what != "product" or row.headroom is None or row.headroom >= MARGIN or row.safe:
            return False
        maker = self._makers[value]
        lacking = math.ceil(min(MARGIN - row.headroom, ALL))
        if decided(maker).kind in (Kind.MULTIPLY, Kind.MATMUL):
            left, right = maker.operands[:2]
            bits = math.ceil(lacking / 2) if left == right else lacking
            return ladders.coarsen(self._places[value], bits, self._spared(left), operand=True)
        scaled = [each for each in maker.operands if each in self._formats]
        coarser = [
            ladders.coarsen(place, lacking, self._spared(each), operand=False)
            for each in scaled
            for place in self._sources(each)
        ]
        return any(coarser)

    def _spared(self, value: ir.Value) -> int:
        """Return the fraction bits that a value keeps when it gives bits to the room of a product."""
        return bits_for(usual_size(self._seen.get(value)), SPARED_BITS)

    def _causes(
        self, ladders: Ladders, value: ir.Value, row: Range, headroom: float
    ) -> Iterator[tuple[Place, int]]:
        """Yield the places that have to climb so that one range gets room, each with a number of steps.

        value: the result of the operation that relies on the range, or the argument.
        """
        place = self._places[value]
        if row.what != "result" and ladders.left.get(place):
            by_one_bit = row.what == "product"
            yield place, math.ceil(min(MARGIN - headroom, ALL)) if by_one_bit else 1
        elif row.what != "result":
            for each in self._makers[value].operands if value in self._makers else ():
                yield from ((source, ALL) for source in self._sources(each))
        elif self._formats[value].ring_bits < USUAL.ring_bits:  # as a reader wants it
            yield from ((reader, 1) for reader in self._readers(value))
        else:
            yield from ((source, ALL) for source in self._sources(value))

    def _beside_too_large(self, op: ir.Op) -> bool:
        """Tell whether a public operand of a sum or of layout does not fit the format of the result.

        An element that is never selected fits no better.
        """
        if decided(op).kind is not Kind.LOCAL or not ir.is_float(op.results[0]):
            return False
        bounds = (largest(each) for each in op.operands if each not in self._formats)
        return any(bound is not None and bound >= decided(op).out.limit for bound in bounds)

    def _sources(self, value: ir.Value) -> Iterator[Place]:
        """Yield the places that computed a value, behind sums and layout."""
        pending, seen = [value], {value}
        while pending:
            each = pending.pop()
            maker = self._makers.get(each)
            if maker is not None and decided(maker).kind is Kind.LOCAL:
                pending += [operand for operand in maker.operands if operand not in seen]
                seen.update(maker.operands)
            elif each in self._places:
                yield self._places[each]

    def _readers(self, value: ir.Value) -> Iterator[Place]:
        """Yield the places that read a value, behind sums and layout."""
        pending, seen = [value], {value}
        while pending:
            for op in ir.users(pending.pop()):
                if read(op) is None:
                    continue
                if decided(op).kind is not Kind.LOCAL:
                    yield place_of(op)
                elif op.results[0] not in seen:
                    pending.append(op.results[0])
                    seen.add(op.results[0])

    def refine(self, ladders: Ladders) -> bool:
        """Give more fraction bits to every place whose values need them. Returns whether one got some."""
        needs = needed_bits(self._operations, list(self._return.operands), self._seen)
        return any(
            [self._refine_result(ladders, op, needs) for op in self._operations]
            + [self._refine_argument(ladders, value, needs) for value in self._arguments]
        )

    def _refine_result(self, ladders: Ladders, op: ir.Op, needs: Mapping[ir.Value, int]) -> bool:
        decision, place, result = decided(op), place_of(op), op.results[0]
        if decision.kind not in _RULED or not ir.is_float(result):
            return False
        record = OPS[place.op]
        if not ladders.left[place]:
            read = op.operands[0]
            about = (needs.get(result, 0), self._largest(result)), (needs.get(read, 0), self._largest(read))
            finer = decision.kind in _PRODUCTS or record.search.slopes is not None
            return finer and ladders.refine_widest(place, *about)
        operand = ladders.at(place).operand
        if operand is not None and operand.fraction_bits < needs.get(op.operands[0], 0):
            return not record.search.absolute and ladders.climb(place)
        if "format" not in record.takes or decision.out.fraction_bits >= needs.get(result, 0):
            return False
        return ladders.refine(place, needs[result], self._largest(result))

    def _refine_argument(self, ladders: Ladders, value: ir.Value, needs: Mapping[ir.Value, int]) -> bool:
        if self._formats[value].fraction_bits >= needs.get(value, 0):
            return False
        products = [op for op in ir.users(value) if self._weighs(op, value)]
        if products:
            refined = [ladders.refine_weight(place_of(op), needs[value]) for op in products]
            return any(refined)
        if not ladders.left[self._places[value]]:
            return ladders.refine_widest(self._places[value], (needs[value], self._largest(value)))
        return ladders.refine(self._places[value], needs[value], self._largest(value))

    def _weighs(self, op: ir.Op, value: ir.Value) -> bool:
        """Tell whether a value is the right factor of a product of matrices."""
        return read(op) is not None and decided(op).kind is Kind.MATMUL and op.operands[1] == value

    def _largest(self, value: ir.Value) -> float:
        seen = self._seen.get(value)
        return 0.0 if seen is None else seen.largest
