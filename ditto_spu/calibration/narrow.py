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
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.fraction_bits import needed_bits, place_of
from ditto_spu.calibration.headroom import Range
from ditto_spu.calibration.ladders import ALL, MARGIN, USUAL, Ladders
from ditto_spu.calibration.observe import Place
from ditto_spu.calibration.relied_ranges import ranges
from ditto_spu.errors import DittoError
from ditto_spu.ops import OPS
from ditto_spu.ops.decision import Kind, decided, read, read_entry
from ditto_spu.passes.pipeline import Work, advance
from ditto_spu.rules.rule import INPUT, Config

_TURNS = 16  # more than the steps of any ladder
_RULED = (Kind.MATMUL, Kind.MULTIPLY, Kind.KERNEL, Kind.SCALE, Kind.RETAG)


def narrow(config: Config, linear: Work, calibration: Calibration) -> Config:
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
            program = _Program(advance(replace(linear, config=chosen), "assign"), calibration)
        except (DittoError, ValueError):  # a kernel raises ValueError if no plan of its own serves
            return config
        if not (program.meet(ladders) or program.make_room(ladders) or program.refine(ladders)):
            outside = any(row.headroom is not None and row.headroom < 0 for row in program.used)
            return config if outside else chosen
    return config


class _Program:
    """A program with formats, and what a calibration says about it.

    used: the ranges that it relies on.
    """

    def __init__(self, assigned: Work, calibration: Calibration) -> None:
        checked = advance(assigned, "verify")
        parts = checked.parts
        self.used = ranges(checked.module, parts.public, parts.paths, calibration).rows
        self._calibration = calibration
        self._module = assigned.module  # the operations live as long as the module
        *operations, self._return = ir.ops(ir.body(ir.main(assigned.module)))
        self._operations = [op for op in operations if read(op) is not None]
        self._makers = {op.results[0]: op for op in self._operations}
        self._paths: dict[ir.Value, str] = {}  # of secret arguments
        self._formats = {op.results[0]: decided(op).out for op in self._operations}
        self._places = {op.results[0]: place_of(op) for op in self._operations}
        entry = read_entry(assigned.module)
        values = zip(ir.arguments(assigned.module), parts.paths, entry.formats, strict=True)
        for number, (value, path, fxp) in enumerate(values):
            if fxp is not None and ir.is_float(value):
                op, at = entry.prepared.get(number, (INPUT, path))
                self._paths[value], self._formats[value], self._places[value] = path, fxp, (at, op)

    def meet(self, ladders: Ladders) -> bool:
        """Put every new place at the foot of its ladder. Returns whether there was one."""
        known = len(ladders.left)
        for op in self._operations:
            if decided(op).kind in _RULED:
                place = place_of(op)
                ladders.meet(place, op, self._calibration.at(*place) is not None)
        for value in self._paths:
            ladders.meet(self._places[value], None, known=True)
        return len(ladders.left) > known

    def make_room(self, ladders: Ladders) -> bool:
        """Let places climb until values have room in every range. Returns whether one did."""
        steps: dict[Place, int] = {}
        for row in self.used:
            if row.headroom is not None and row.headroom < MARGIN:
                for place, count in self._causes(ladders, row, row.headroom):
                    steps[place] = max(count, steps.get(place, 0))
        climbed = [ladders.climb(place, count) for place, count in steps.items()]
        return any(climbed)

    def _causes(self, ladders: Ladders, row: Range, headroom: float) -> Iterator[tuple[Place, int]]:
        """Yield the places that have to climb so that one range gets room, each with a number of steps."""
        place = (row.path, row.op)
        values = [value for value, path in self._paths.items() if (path, INPUT) == place]
        values += [op.results[0] for op in self._operations if place_of(op) == place]
        if row.what != "result" and ladders.left.get(place):
            by_one_bit = row.what == "product"
            yield place, math.ceil(min(MARGIN - headroom, ALL)) if by_one_bit else 1
        elif row.what != "result":
            for value in values:
                for each in self._makers[value].operands if value in self._makers else ():
                    yield from ((source, ALL) for source in self._sources(each))
        else:
            for value in values:
                if self._formats[value].ring_bits < USUAL.ring_bits:  # as a reader wants it
                    yield from ((reader, 1) for reader in self._readers(value))
                else:
                    yield from ((source, ALL) for source in self._sources(value))

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
        needs = needed_bits(self._operations, list(self._return.operands), self._paths, self._calibration)
        return any(
            [self._refine_result(ladders, op, needs) for op in self._operations]
            + [self._refine_argument(ladders, value, needs) for value in self._paths]
        )

    def _refine_result(self, ladders: Ladders, op: ir.Op, needs: Mapping[ir.Value, int]) -> bool:
        decision, place, result = decided(op), place_of(op), op.results[0]
        if decision.kind not in _RULED or not ir.is_float(result):
            return False
        record, operand = OPS[place[1]], ladders.at(place).operand
        if operand is not None and operand.fraction_bits < needs.get(op.operands[0], 0):
            return not record.search.absolute and ladders.climb(place)
        if "format" not in record.takes or decision.out.fraction_bits >= needs.get(result, 0):
            return False
        return ladders.refine(place, needs[result], self._largest(*place))

    def _refine_argument(self, ladders: Ladders, value: ir.Value, needs: Mapping[ir.Value, int]) -> bool:
        if self._formats[value].fraction_bits >= needs.get(value, 0):
            return False
        products = [op for op in ir.users(value) if self._weighs(op, value)]
        if products:
            refined = [ladders.refine_weight(place_of(op), needs[value]) for op in products]
            return any(refined)
        return ladders.refine(self._places[value], needs[value], self._largest(self._paths[value], INPUT))

    def _weighs(self, op: ir.Op, value: ir.Value) -> bool:
        """Tell whether a value is the right factor of a product of matrices."""
        return read(op) is not None and decided(op).kind is Kind.MATMUL and op.operands[1] == value

    def _largest(self, path: str, op: str) -> float:
        seen = self._calibration.at(path, op)
        return 0.0 if seen is None else seen.largest
