"""Supplies ranges from a calibration where no rule declares one.

With a range, products take cheaper forms, and formats may become narrower.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ditto_kernels.products.matmul import doubles
from ditto_kernels.products.multiply import MULTIPLY, symmetric
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.errors import InputError
from ditto_spu.ops import subject
from ditto_spu.ops.decision import Decision, Kind, decided, read
from ditto_spu.passes.formats.verify import product_room
from ditto_spu.rules.rule import Config, Rule, literal

# Margins over the largest value observed. The first one that costs no more than any other is taken.
SAFETY = (2.0, 1.75, 1.5)
_SUPPLIED = (Kind.MATMUL, Kind.MULTIPLY, Kind.LOCAL, Kind.SCALE, Kind.RETAG)
_FILL = 0.99  # the part of a format's range that a supplied range may take


def supply(config: Config, module: ir.Module, calibration: Calibration) -> Config:
    """Return the configuration with further rules, which declare ranges from a calibration.

    A range is the largest value observed, times a margin of 1.5 to 2. The new rules stand behind those of the
    configuration. A place whose formats have no room for the smallest margin gets no range.

    module: the program with the formats that the configuration gives it without the new rules.

    Raises InputError for a calibration of another function: none of its places is in the program.
    """
    rooms: dict[tuple[str, str], float] = {}
    prices: dict[tuple[str, str], list[ir.Op]] = {}
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        decision = read(op)
        if decision is None or decision.kind not in _SUPPLIED or not ir.is_float(op.results[0]):
            continue
        place = (decision.path, subject(op, decision.kind))
        rooms[place] = min(rooms.get(place, math.inf), _room(decision))
        prices.setdefault(place, []).append(op)
    if calibration.values and rooms and not any(place in calibration.values for place in rooms):
        path, kind = next(iter(calibration.values))
        raise InputError(
            f"the calibration of '{calibration.function}' has no place of this program (it has {kind} at "
            f"'{path}' and {len(calibration.values) - 1} more): calibrate the function that you run"
        )
    rules = []
    for (path, op_kind), room in rooms.items():
        seen, choice = calibration.at(path, op_kind), config.lookup(op_kind, path)
        if seen is None or choice.range is not None or not seen.largest:
            continue
        room = min(room, choice.format.limit / 2) * _FILL
        fitting = [safety * seen.largest for safety in SAFETY if safety * seen.largest <= room]
        if fitting:
            costs = [sum(_price(op, each) for op in prices[path, op_kind]) for each in fitting]
            chosen = next(each for each, cost in zip(fitting, costs, strict=True) if cost <= min(costs))
            rules.append(Rule(path=literal(path), op=(op_kind,), range=_rounded(chosen), optional=True))
    return replace(config, rules=(*config.rules, *rules))


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
