"""The formats of one operation, its operands and its result, by kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.passes.analysis.classify import op_name, rule_op
from ditto_spu.passes.analysis.public_operands import constant, is_integral, largest, power_of_two
from ditto_spu.passes.formats.assign_state import (
    State,
    choice_of,
    consumers_want,
    current_format,
    record,
    record_operands,
)
from ditto_spu.plan.plan import INTEGER, SPU_FORMAT
from ditto_spu.rules.rule import Choice

RMS_WEIGHTS = Fxp(64, 10)
_NORMALISATIONS = ("ditto.layer_norm", "ditto.rms_norm")
INDICATOR = Fxp(32, 0)  # of zeros and ones
FACTOR_BITS = {16: 8, 32: 11, 64: 20}  # significant bits of a public factor


def decide(state: State, op: ir.Op) -> None:
    """Write every decision about an operation on it."""
    kind, path = state.kinds[op], ir.path_of(op)
    ir.set_string(op, "ditto.kind", kind)
    ir.set_string(op, "ditto.path", path)
    secrets = [each for each in op.operands if state.secret[each]]
    if kind == "spu":
        _decide_spu(state, op, secrets)
        return
    result = op.results[0]
    choice = choice_of(state, op)
    default = choice.format
    if not state.sets_format(rule_op(op, kind), path):
        default = consumers_want(state, result) or default
    if choice.range is not None:
        ir.set_string(op, "ditto.range", f"{choice.range:g}")
    if kind == "local":
        _decide_local(state, op, secrets, default)
    elif kind == "scale":
        _decide_scale(state, op, secrets[0], default)
    elif op_name(op) == "ditto.adapted":
        _decide_adapted(state, op, choice, default)
    elif kind in ("matmul", "multiply"):
        _decide_product(state, op, kind, choice, default)
    else:
        _decide_kernel(state, op, choice, default)


def _decide_spu(state: State, op: ir.Op, secrets: Sequence[ir.Value]) -> None:
    for each in secrets:
        current_format(state, each, SPU_FORMAT)
    operands = {each: SPU_FORMAT if ir.is_float(each) else INTEGER for each in secrets}
    record_operands(op, operands)
    for result in op.results:
        state.formats[result] = SPU_FORMAT if ir.is_float(result) else INTEGER
    record(op, SPU_FORMAT if ir.is_float(op.results[0]) else INTEGER)


def _decide_local(state: State, op: ir.Op, secrets: Sequence[ir.Value], default: Fxp) -> None:
    result = op.results[0]
    if not ir.is_float(result):
        state.formats[result] = INTEGER
        record(op, INTEGER)
        record_operands(op, dict.fromkeys(secrets, INTEGER))
        return
    if (joined := _sum_of_products(op, secrets)) is not None:
        natural, target = joined
        state.formats |= {**dict.fromkeys(secrets, natural), result: target}
        record_operands(op, dict.fromkeys(secrets, natural))
        record(op, target, natural)
        return
    known = [fxp for each in secrets if (fxp := state.formats[each]) is not None]
    if not known and len(secrets) == 1:
        # Still only a rearranged argument: whoever uses it decides its format.
        state.formats[result] = None
        state.roots[result] = state.roots[secrets[0]]
        ir.set_string(op, "ditto.format", "argument")
        return
    target = default
    if known:
        # Up to the finest of the operands: shifting left is free, dropping bits costs a truncation.
        target = Fxp(max(f.ring_bits for f in known), max(f.fraction_bits for f in known))
    for each in secrets:
        current_format(state, each, target)
    record_operands(op, dict.fromkeys(secrets, target))
    state.formats[result] = target
    record(op, target)


def _sum_of_products(op: ir.Op, secrets: Sequence[ir.Value]) -> tuple[Fxp, Fxp] | None:
    """(format of the products, that of the result) where two products by public values meet, and only here.

    They are added before they are truncated, if the declared ranges leave room: rotary positions.
    """
    makers = [maker for each in secrets if (maker := ir.define(each)) is not None]
    alone = all(len(ir.users(each)) == 1 for each in secrets)
    if op.name not in ("stablehlo.add", "stablehlo.subtract") or len(makers) != 2 or not alone:
        return None
    if any(ir.attribute(maker, "ditto.kind") != "scale" for maker in makers):
        return None
    naturals = {ir.attribute(maker, "ditto.natural") for maker in makers}
    targets = {ir.attribute(maker, "ditto.format") for maker in makers}
    if len(naturals) > 1 or len(targets) > 1 or None in naturals:
        return None
    natural, target = Fxp.parse(naturals.pop()), Fxp.parse(targets.pop())
    ranges = [ir.attribute(maker, "ditto.range") for maker in makers]
    if None in ranges or sum(map(float, ranges)) >= natural.limit / 2:
        return None
    for maker in makers:
        ir.set_string(maker, "ditto.format", str(natural))
        del maker.attributes["ditto.natural"]
    return natural, target


def _decide_scale(state: State, op: ir.Op, value: ir.Value, default: Fxp) -> None:
    """Times a public value: a power of two is read off, an integer needs no truncation, others are encoded.

    A factor is encoded in ring 64, where the product has room and is narrowed for free, unless a declared
    range says that the product fits the ring of the value.
    """
    result = op.results[0]
    other = next(each for each in op.operands if each != value)
    known = constant(other)
    current = current_format(state, value, default)
    if known is not None and (shift := power_of_two(known)) is not None:
        bits = current.fraction_bits - shift
        if 0 <= bits < current.ring_bits:
            # More fraction bits than asked for would take the room of what the result meets: they go.
            kept = min(bits, max(default.fraction_bits, current.fraction_bits))
            ir.set_string(op, "ditto.kind", "retag")
            state.formats[result] = Fxp(current.ring_bits, kept)
            record_operands(op, {value: current})
            record(op, Fxp(current.ring_bits, kept), Fxp(current.ring_bits, bits))
            return
    target = Fxp(current.ring_bits, min(current.fraction_bits, default.fraction_bits))
    bound = largest(other)
    lead = math.ceil(math.log2(bound)) if bound else 0
    if is_integral(other):
        bits, target = 0, current
    elif bound is not None and _fits(op, current, FACTOR_BITS[max(16, current.ring_bits)] - lead):
        bits = FACTOR_BITS[max(16, current.ring_bits)] - lead
    else:
        current = Fxp(64, current.fraction_bits)
        bits = FACTOR_BITS[64] - lead
    bits = max(0, min(bits, current.ring_bits - 2 - current.fraction_bits))
    ir.set_string(op, "ditto.factor", str(Fxp(current.ring_bits, bits)))
    record_operands(op, {value: current})
    state.formats[result] = target
    record(op, target, Fxp(current.ring_bits, current.fraction_bits + bits))


def _fits(op: ir.Op, fxp: Fxp, factor_bits: int) -> bool:
    """Whether a declared range lets the product with such a factor be truncated in the ring of the value."""
    declared = ir.attribute(op, "ditto.range")
    if declared is None:
        return False
    return float(declared) < 2.0 ** (fxp.ring_bits - 2 - fxp.fraction_bits - max(0, factor_bits))


def _decide_product(state: State, op: ir.Op, kind: str, choice: Choice, default: Fxp) -> None:
    """Operands meet in one ring; the result is truncated from it, into a smaller one where that is free."""
    left, right = op.operands[0], op.operands[1]
    path = ir.path_of(op)
    asked = choice.operand or state.config.default_format
    weight = state.choose("weight" if kind == "matmul" else "input", path)
    wishes = {right: weight.format if kind == "matmul" else asked, left: asked}
    if kind == "matmul" and left in state.binary:  # one-hot rows: exact, unless a range makes rounding cheap
        wishes = {left: Fxp(32, 0), right: _table_format(weight.format if choice.range else default)}
    formats: dict[ir.Value, Fxp] = {}
    for value in (left, right):
        if state.secret[value]:
            known = current_format(state, value, wishes[value])
            if value in formats:
                continue
            own = choice.operand if value == left and value not in state.binary else None
            formats[value] = own or known
    exact = kind == "matmul" and left in state.binary  # one-hot rows are long: they stay in ring 32
    wide = 32 if exact else default.ring_bits
    ring = max([32, wide, *(f.ring_bits for f in formats.values())])
    if kind == "multiply" and choice.range is None:
        ring = 64  # nobody promises that the product, with the fraction bits of both, fits a narrow ring
    formats = {value: Fxp(ring, fxp.fraction_bits) for value, fxp in formats.items()}
    bits = [formats[v].fraction_bits if v in formats else weight.format.fraction_bits for v in (left, right)]
    if len(formats) == 1 and left != right:
        ir.set_string(op, "ditto.factor", str(Fxp(ring, weight.format.fraction_bits)))
    more = kind == "matmul" and len(formats) == 2  # products of matrices come doubled, for less
    record_operands(op, formats)
    _record_product(state, op, Fxp(ring, sum(bits)), default, sum(bits) + more)


def _decide_adapted(state: State, op: ir.Op, choice: Choice, default: Fxp) -> None:
    """x w + t b, of which w is public, in one ring: b gets the bits that let t b meet x w."""
    x, _, t, b = op.operands
    weight = state.choose("weight", ir.path_of(op)).format
    asked = choice.operand or state.config.default_format
    known = current_format(state, x, asked)
    formats = {x: choice.operand or known, t: current_format(state, t, asked)}
    bits = formats[x].fraction_bits + weight.fraction_bits
    ring = max([32, default.ring_bits, *(each.ring_bits for each in formats.values())])
    fitting = Fxp(ring, min(max(2, bits - formats[t].fraction_bits), ring // 2))
    formats[b] = current_format(state, b, fitting)
    ring = max(ring, formats[b].ring_bits)
    formats = {each: Fxp(ring, fxp.fraction_bits) for each, fxp in formats.items()}
    ir.set_string(op, "ditto.factor", str(Fxp(ring, weight.fraction_bits)))
    bits = max(bits, formats[t].fraction_bits + formats[b].fraction_bits)
    record_operands(op, formats)
    _record_product(state, op, Fxp(ring, bits), default, bits)


def _record_product(state: State, op: ir.Op, natural: Fxp, default: Fxp, most: int) -> None:
    """The result in `default`, or the nearest that a product can be truncated to; `most`: fraction bits."""
    ring, dropped = natural.ring_bits, natural.fraction_bits - default.fraction_bits
    target = default if default.ring_bits <= ring - dropped else Fxp(ring, default.fraction_bits)
    target = Fxp(target.ring_bits, min(target.fraction_bits, most))
    state.formats[op.results[0]] = target
    record(op, target, natural)


def _decide_kernel(state: State, op: ir.Op, choice: Choice, default: Fxp) -> None:
    name, result = op_name(op), op.results[0]
    operands: dict[ir.Value, Fxp] = {}
    for index, each in enumerate(op.operands):
        if not ir.is_float(each):
            if state.secret[each]:
                operands[each] = INTEGER
            continue
        main_operand = index == 0 or name in ("stablehlo.maximum", "stablehlo.divide")
        if name == "stablehlo.reduce" and index == 1:
            continue  # the initial value of a maximum is its identity
        if state.secret[each]:
            wish = (choice.operand if main_operand else None) or state.config.default_format
            if name == "ditto.embedding":
                wish = _table_format(choice.operand or consumers_want(state, result) or wish)
            if name == "ditto.rms_norm" and not main_operand:
                wish = RMS_WEIGHTS  # what the kernel multiplies by: a data owner rounds to it once
            if name == "ditto.layer_norm" and not main_operand:
                wish = Fxp(64, wish.fraction_bits)  # where the kernel computes: short vectors, no upcast
            known = current_format(state, each, wish)
            operands[each] = choice.operand if main_operand and choice.operand else known
            if name == "ditto.embedding":
                operands[each] = _table_format(operands[each])
        elif (main_operand and name not in _NORMALISATIONS) or name == "ditto.embedding":
            operands[each] = choice.operand or state.config.default_format
    if name in ("stablehlo.maximum", "stablehlo.divide") or name == "stablehlo.reduce":
        meet = Fxp(
            max(f.ring_bits for f in operands.values()), max(f.fraction_bits for f in operands.values())
        )
        operands = dict.fromkeys(operands, meet)
        if name != "stablehlo.divide":
            default = meet
    if name == "ditto.embedding":
        default = operands[op.operands[0]]
    if name == "ditto.argmax" and not state.sets_format("argmax", ir.path_of(op)):
        default = consumers_want(state, result) or INDICATOR
    for key, value in (("ditto.approx", choice.approx), ("ditto.inner", choice.inner)):
        if value is not None:
            ir.set_string(op, key, str(value))
    record_operands(op, operands)
    state.formats[result] = default
    record(op, default)


def _table_format(fxp: Fxp) -> Fxp:
    """A table is multiplied by one-hot vectors in ring 32 at most."""
    return fxp if fxp.ring_bits <= 32 else Fxp(32, min(fxp.fraction_bits, 20))
