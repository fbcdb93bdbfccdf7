"""Supplies ranges from a calibration where no rule declares one.

With a range, products take cheaper forms, and formats may become narrower.
"""

from __future__ import annotations

from dataclasses import replace

from ditto_kernels.products.matmul import doubles
from ditto_kernels.products.multiply import MULTIPLY, symmetric
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.known import Known
from ditto_spu.calibration.places import Place, grouped, place_of
from ditto_spu.ops import intervals
from ditto_spu.ops.decision import Decision, Kind, decided, read
from ditto_spu.passes.formats.verify import product_room
from ditto_spu.rules.rule import Config, Rule, literal

# Margins over the largest value observed. The first one that costs no more than any other is taken.
SAFETY = (2.0, 1.75, 1.5)
PROVEN = 1.06  # the same over a magnitude that is proven: roundings of formats are not counted there
_SUPPLIED = (Kind.MATMUL, Kind.MULTIPLY, Kind.LOCAL, Kind.SCALE, Kind.RETAG)
_FILL = 0.99  # the part of a format's range that a supplied range may take


def supply(config: Config, module: ir.Module, known: Known) -> Config:
    """Return the configuration with further rules, which declare ranges from a calibration.

    A range is the largest value observed, times a margin of 1.5 to 2, or what is proven if that is less. The
    new rules stand behind those of the configuration. An operation whose formats have no room for the
    smallest margin gets no range.

    module: the program with the formats that the configuration gives it without the new rules.
    """
    ranges: dict[Place, float | None] = {}
    proven = intervals(module)
    for number, op in enumerate(ir.ops(ir.body(ir.main(module)))[:-1]):
        decision = read(op)
        if decision is None:
            continue
        place, seen = place_of(op), known.operations[number]
        ranges[place] = None  # for layout, the range of what it rearranges counts
        if place.nth is None or decision.kind not in _SUPPLIED or not ir.is_float(op.results[0]):
            continue
        declared = config.lookup(*place)
        if seen is not None and declared.range is None and seen.largest:
            most = PROVEN * max(map(abs, proven.get(op.results[0], ir.EVERYTHING)))
            ranges[place] = _range(op, decision, seen.largest, most, declared.format)
    rules = (
        Rule(path=literal(places.path), op=(places.op,), **places.numbers, range=value, optional=True)
        for places, value in grouped(ranges)
        if value is not None
    )
    return replace(config, rules=(*config.rules, *rules))


def _range(op: ir.Op, decision: Decision, largest: float, most: float, ruled: Fxp) -> float | None:
    """Return the range for an operation, or None where its formats have no room for one.

    largest: the largest magnitude observed.
    most: the largest magnitude that a value can have, as far as that is known.
    ruled: the format that the configuration gives to the result.
    """
    room = min(_room(decision), ruled.limit / 2) * _FILL
    tried = [max(largest, min(safety * largest, most)) for safety in SAFETY]
    fitting = [each for each in tried if each <= room]
    if not fitting:
        return None
    costs = [_price(op, each) for each in fitting]
    return _rounded(next(each for each, cost in zip(fitting, costs, strict=True) if cost <= min(costs)))


def _room(decision: Decision) -> float:
    """Return a bound below which a declared range must stay, so that the formats can hold it."""
    out, product = decision.out, decision.natural
    room = out.limit / 2
    if product is not None:
        if decision.kind is Kind.MULTIPLY:  # with a range, its ring is that of the operands
            ring = max(32, out.ring_bits)
            if product.fraction_bits >= ring:
                return 0.0
            product = Fxp(ring, product.fraction_bits)
        room = min(room, product_room(product, out))
    return room


def _price(op: ir.Op, largest: float) -> float:
    """Return the bytes of a product with this range.

    They count a tenth less if one product of matrices takes the place of two.
    """
    decision = decided(op)
    out, product, values = decision.out, decision.natural, symmetric(largest)
    if product is None or decision.kind is not Kind.MATMUL:
        return 0.0
    double = doubles(product.ring_bits, product.fraction_bits, out, values)
    finished = Spec(ir.shape(op.results[0]), Fxp(product.ring_bits, product.fraction_bits + double))
    cost = MULTIPLY.cost(finished, Spec((), Fxp(product.ring_bits, 0)), out=out, range=largest)
    return cost.total_bytes * (0.9 if double else 1.0)


def _rounded(value: float) -> float:
    """Return a value with three digits, as a person would write it."""
    return float(f"{value:.3g}")
