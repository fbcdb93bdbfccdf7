"""Ranges from a calibration where no rule declares one: products take cheaper forms, formats may narrow."""

from __future__ import annotations

import math
from dataclasses import replace

from ditto_kernels.products.matmul import doubles
from ditto_kernels.products.multiply import MULTIPLY, symmetric
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.passes.analysis.classify import rule_op
from ditto_spu.passes.formats.verify import product_room
from ditto_spu.rules.rule import Config, Rule

SAFETY = (2.0, 1.75, 1.5)  # times the largest value seen: the first that is no dearer than the last
_SUPPLIED = ("matmul", "multiply", "add")
_FILL = 0.99  # of what a format admits


def supply(config: Config, module: ir.Module, calibration: Calibration) -> Config:
    """The configuration with rules that declare what `calibration` saw, times a margin, behind its own.

    module: the program with the formats that the configuration gives it without these rules. A place whose
    formats have no room for the least margin gets none.
    """
    rooms: dict[tuple[str, str], float] = {}
    prices: dict[tuple[str, str], list[ir.Op]] = {}
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        kind = ir.attribute(op, "ditto.kind")
        if kind not in ("matmul", "multiply", "local", "scale", "retag") or not ir.is_float(op.results[0]):
            continue
        place = (ir.attribute(op, "ditto.path"), rule_op(op, kind))
        rooms[place] = min(rooms.get(place, math.inf), _room(op, kind))
        prices.setdefault(place, []).append(op)
    rules = []
    for (path, op_kind), room in rooms.items():
        seen, choice = calibration.at(path, op_kind), config.lookup(op_kind, path)
        if seen is None or choice.range is not None or op_kind not in _SUPPLIED or not seen.largest:
            continue
        room = min(room, choice.format.limit / 2) * _FILL
        fitting = [safety * seen.largest for safety in SAFETY if safety * seen.largest <= room]
        if fitting:
            costs = [sum(_price(op, each) for op in prices[path, op_kind]) for each in fitting]
            chosen = next(each for each, cost in zip(fitting, costs, strict=True) if cost <= min(costs))
            rules.append(Rule(path=_literal(path), op=(op_kind,), range=_rounded(chosen), optional=True))
    return replace(config, rules=(*config.rules, *rules))


def _room(op: ir.Op, kind: str) -> float:
    """What a declared range must stay below for the formats to hold it."""
    out, natural = Fxp.parse(ir.attribute(op, "ditto.format")), ir.attribute(op, "ditto.natural")
    room = out.limit / 2
    if natural is not None:
        product = Fxp.parse(natural)
        if kind == "multiply":  # with a declared range it is computed in the ring of its operands
            ring = max(32, out.ring_bits)
            if product.fraction_bits >= ring:
                return 0.0
            product = Fxp(ring, product.fraction_bits)
        room = min(room, product_room(product, out))
    return room


def _price(op: ir.Op, largest: float) -> float:
    """Bytes of a product with this range; one product of matrices instead of two counts as a tenth less."""
    out, natural = Fxp.parse(ir.attribute(op, "ditto.format")), ir.attribute(op, "ditto.natural")
    if natural is None or ir.attribute(op, "ditto.kind") != "matmul":
        return 0.0
    product, values = Fxp.parse(natural), symmetric(largest)
    double = doubles(product.ring_bits, product.fraction_bits, out, values)
    finished = Spec(ir.shape(op.results[0]), Fxp(product.ring_bits, product.fraction_bits + double))
    cost = MULTIPLY.cost(finished, Spec((), Fxp(product.ring_bits, 0)), out=out, range=largest)
    return cost.total_bytes * (0.9 if double else 1.0)


def _rounded(value: float) -> float:
    """Three digits, as a person would write them."""
    return float(f"{value:.3g}")


def _literal(path: str) -> str:
    """A regular expression for one path: dots and the like escaped, nothing else."""
    return "".join(f"\\{each}" if each in r".^$*+?{}[]\|()" else each for each in path)
