"""Choose a format for every secret value: first rules, then what the consumers ask for, then the default.

The decisions are string attributes on the operations: `ditto.kind`, `ditto.path`, `ditto.format` (of the
result), `ditto.natural` (of the result before its cast: a product has the fraction bits of both operands),
`ditto.operands` (what each secret operand is cast to; '-' leaves it), `ditto.approx`, `ditto.inner`,
`ditto.range`. `ditto.arguments` on @main holds the formats of the secret arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ditto_kernels.ring import Fxp
from ditto_spu import ir
from ditto_spu.passes.choose import cheapest
from ditto_spu.passes.factors import constant, is_integral, largest, power_of_two
from ditto_spu.passes.operations import kinds, op_name, rule_op
from ditto_spu.passes.visibility import visibility
from ditto_spu.rules import Choice, Config

SPU_FORMAT = Fxp(64, 18)
INTEGER = Fxp(64, 0)
RMS_WEIGHTS = Fxp(64, 10)
_NORMALISATIONS = ("ditto.layer_norm", "ditto.rms_norm")
INDICATOR = Fxp(32, 0)  # of zeros and ones
FACTOR_BITS = {16: 8, 32: 11, 64: 20}  # significant bits of a public factor


@dataclass
class _State:
    """What the walk knows so far."""

    config: Config
    secret: dict[ir.Value, bool]
    formats: dict[ir.Value, Fxp | None] = field(
        default_factory=dict
    )  # None: an argument nobody has fixed yet
    roots: dict[ir.Value, ir.Value] = field(
        default_factory=dict
    )  # layout of an unfixed argument -> the argument
    wants: dict[ir.Value, Fxp | None] = field(default_factory=dict)
    kinds: dict[ir.Op, str] = field(default_factory=dict)
    binary: set[ir.Value] = field(default_factory=set)  # arguments of zeros and ones
    used: set[int] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    chosen: dict[ir.Op, Choice] = field(default_factory=dict)  # by an error limit

    def choose(self, rule_op: str, path: str) -> Choice:
        choice = self.config.lookup(rule_op, path)
        self.used |= choice.rules
        self.paths.add(path)
        return choice

    def sets_format(self, rule_op: str, path: str) -> bool:
        return any(rule.format is not None and rule.matches(rule_op, path) for rule in self.config.rules)


def assign(
    module: ir.Module,
    public: Sequence[bool],
    config: Config,
    arguments: Sequence[tuple[str, Fxp | None]] = (),
) -> ir.Module:
    """A copy of the fused module with every decision written on it. ConfigError for an unused rule.

    arguments: path of each argument of @main, and the format it has already, if any.
    """
    module = ir.clone(module)
    state = _State(config, visibility(module, public))
    block = ir.body(ir.main(module))
    operations = ir.ops(block)
    state.kinds = kinds(operations[:-1], lambda value: state.secret[value])
    for op in reversed(operations[:-1]):
        _want(state, op)
    binary = (ir.attribute(ir.main(module), "ditto.binary") or "").split(",")
    lines = (ir.attribute(ir.main(module), "ditto.prepared") or "").split("\n")
    prepared = {int(place): tuple(rest) for line in lines if line for place, *rest in [line.split(" ", 2)]}
    for place, argument in enumerate(ir.arguments(module)):
        if str(place) in binary:
            state.binary.add(argument)
        if state.secret[argument]:
            path, fxp = arguments[place] if arguments else ("", None)
            if not ir.is_float(argument):
                state.formats[argument] = fxp or INTEGER
            elif place in prepared:
                state.formats[argument] = _ruled(state, *prepared[place])
            else:
                state.formats[argument] = fxp or _by_rule(state, path)
            state.roots[argument] = argument
    for op in operations[:-1]:
        if state.kinds[op] not in ("public", "inner"):
            _decide(state, op)
    _finish_arguments(state, module)
    hoisted = (ir.attribute(ir.main(module), "ditto.hoisted") or "").split("\n")
    state.used |= {  # by what owners do in plaintext, which needs no format
        place
        for place, rule in enumerate(config.rules)
        if any(rule.path is None or re.fullmatch(rule.path, path) for path in hoisted if path)
    }
    config.refuse_unused_rules(state.used, sorted(state.paths))
    ir.verify(module)
    return module


def _ruled(state: _State, op: str, path: str) -> Fxp | None:
    """The format that a rule for this path gives to what its owner computes in plaintext."""
    rules = (rule for rule in state.config.rules if rule.path is not None and rule.matches(op, path))
    return next((rule.format for rule in rules if rule.format is not None), None)


def _by_rule(state: _State, path: str) -> Fxp | None:
    """The format that a rule for inputs at this path sets; None leaves it to whoever uses the argument."""
    if not any(
        rule.op and "input" in rule.op and rule.path and rule.format and rule.matches("input", path)
        for rule in state.config.rules
    ):
        return None
    return state.choose("input", path).format


def _choice(state: _State, op: ir.Op) -> Choice:
    choice = state.choose(rule_op(op, state.kinds[op]), ir.path_of(op))
    if choice.error is None or (choice.operand and choice.approx):
        return choice
    if op not in state.chosen:
        state.chosen[op] = cheapest(op, choice, lambda maker: _declared(state, maker))
    return state.chosen[op]


def _declared(state: _State, op: ir.Op) -> float | None:
    """The range that a rule promises for the result of an operation."""
    if state.kinds.get(op, "public") in ("public", "cast", "spu"):
        return None
    return state.choose(rule_op(op, state.kinds[op]), ir.path_of(op)).range


def _want(state: _State, op: ir.Op) -> None:
    """Backward: the format in which the consumers of each operand would take it, if they agree."""
    kind = state.kinds[op]
    if kind in ("public", "cast"):
        return
    wanted: Fxp | None
    if kind == "spu":
        wanted = SPU_FORMAT
    elif kind == "local":
        wanted = _consumers_want(state, op.results[0])
    elif kind == "scale":
        wanted = None
    else:
        wanted = _choice(state, op).operand
    for operand in op.operands:
        if state.secret[operand] and ir.is_float(operand):
            known = state.wants.get(operand, wanted)
            state.wants[operand] = wanted if known == wanted else None


def _consumers_want(state: _State, value: ir.Value) -> Fxp | None:
    returned = any(each.name in ("func.return", "stablehlo.return") for each in ir.users(value))
    return None if returned else state.wants.get(value)


def _current(state: _State, value: ir.Value, asked: Fxp) -> Fxp:
    """The format of a value; an argument that nobody has fixed yet becomes what is asked for."""
    known = state.formats[value]
    if known is not None:
        return known
    root = state.roots[value]
    for each, owner in list(state.roots.items()):
        if owner == root:
            state.formats[each] = asked
    return asked


def _decide(state: _State, op: ir.Op) -> None:
    kind, path = state.kinds[op], ir.path_of(op)
    ir.set_string(op, "ditto.kind", kind)
    ir.set_string(op, "ditto.path", path)
    secrets = [each for each in op.operands if state.secret[each]]
    if kind == "spu":
        _decide_spu(state, op, secrets)
        return
    result = op.results[0]
    choice = _choice(state, op)
    default = choice.format
    if not state.sets_format(rule_op(op, kind), path):
        default = _consumers_want(state, result) or default
    if choice.range is not None:
        ir.set_string(op, "ditto.range", f"{choice.range:g}")
    if kind == "local":
        _decide_local(state, op, secrets, default)
    elif kind == "scale":
        _decide_scale(state, op, secrets[0], default)
    elif kind in ("matmul", "multiply"):
        _decide_product(state, op, kind, choice, default)
    else:
        _decide_kernel(state, op, choice, default)


def _decide_spu(state: _State, op: ir.Op, secrets: Sequence[ir.Value]) -> None:
    for each in secrets:
        _current(state, each, SPU_FORMAT)
    operands = {each: SPU_FORMAT if ir.is_float(each) else INTEGER for each in secrets}
    _record_operands(op, operands)
    for result in op.results:
        state.formats[result] = SPU_FORMAT if ir.is_float(result) else INTEGER
    _record(op, SPU_FORMAT if ir.is_float(op.results[0]) else INTEGER)


def _decide_local(state: _State, op: ir.Op, secrets: Sequence[ir.Value], default: Fxp) -> None:
    result = op.results[0]
    if not ir.is_float(result):
        state.formats[result] = INTEGER
        _record(op, INTEGER)
        _record_operands(op, dict.fromkeys(secrets, INTEGER))
        return
    if (joined := _sum_of_products(op, secrets)) is not None:
        natural, target = joined
        state.formats |= {**dict.fromkeys(secrets, natural), result: target}
        _record_operands(op, dict.fromkeys(secrets, natural))
        _record(op, target, natural)
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
        _current(state, each, target)
    _record_operands(op, dict.fromkeys(secrets, target))
    state.formats[result] = target
    _record(op, target)


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


def _decide_scale(state: _State, op: ir.Op, value: ir.Value, default: Fxp) -> None:
    """Times a public value: a power of two is read off, an integer needs no truncation, others are encoded.

    A factor is encoded in ring 64, where the product has room and is narrowed for free, unless a declared
    range says that the product fits the ring of the value.
    """
    result = op.results[0]
    other = next(each for each in op.operands if each != value)
    known = constant(other)
    current = _current(state, value, default)
    if known is not None and (shift := power_of_two(known)) is not None:
        bits = current.fraction_bits - shift
        if 0 <= bits < current.ring_bits:
            # More fraction bits than asked for would take the room of what the result meets: they go.
            kept = min(bits, max(default.fraction_bits, current.fraction_bits))
            ir.set_string(op, "ditto.kind", "retag")
            state.formats[result] = Fxp(current.ring_bits, kept)
            _record_operands(op, {value: current})
            _record(op, Fxp(current.ring_bits, kept), Fxp(current.ring_bits, bits))
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
    _record_operands(op, {value: current})
    state.formats[result] = target
    _record(op, target, Fxp(current.ring_bits, current.fraction_bits + bits))


def _fits(op: ir.Op, fxp: Fxp, factor_bits: int) -> bool:
    """Whether a declared range lets the product with such a factor be truncated in the ring of the value."""
    declared = ir.attribute(op, "ditto.range")
    if declared is None:
        return False
    return float(declared) < 2.0 ** (fxp.ring_bits - 2 - fxp.fraction_bits - max(0, factor_bits))


def _decide_product(state: _State, op: ir.Op, kind: str, choice: Choice, default: Fxp) -> None:
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
            known = _current(state, value, wishes[value])
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
    natural = Fxp(ring, sum(bits))
    target = (
        default
        if default.ring_bits <= ring - (natural.fraction_bits - default.fraction_bits)
        else Fxp(ring, default.fraction_bits)
    )
    more = kind == "matmul" and len(formats) == 2  # products of matrices come doubled, for less
    target = Fxp(target.ring_bits, min(target.fraction_bits, natural.fraction_bits + more))
    _record_operands(op, formats)
    state.formats[op.results[0]] = target
    _record(op, target, natural)


def _decide_kernel(state: _State, op: ir.Op, choice: Choice, default: Fxp) -> None:
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
                wish = _table_format(choice.operand or _consumers_want(state, result) or wish)
            if name == "ditto.rms_norm" and not main_operand:
                wish = RMS_WEIGHTS  # what the kernel multiplies by: a data owner rounds to it once
            if name == "ditto.layer_norm" and not main_operand:
                wish = Fxp(64, wish.fraction_bits)  # where the kernel computes: short vectors, no upcast
            known = _current(state, each, wish)
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
        default = _consumers_want(state, result) or INDICATOR
    for key, value in (("ditto.approx", choice.approx), ("ditto.inner", choice.inner)):
        if value is not None:
            ir.set_string(op, key, str(value))
    _record_operands(op, operands)
    state.formats[result] = default
    _record(op, default)


def _table_format(fxp: Fxp) -> Fxp:
    """A table is multiplied by one-hot vectors in ring 32 at most."""
    return fxp if fxp.ring_bits <= 32 else Fxp(32, min(fxp.fraction_bits, 20))


def _record(op: ir.Op, fxp: Fxp, natural: Fxp | None = None) -> None:
    ir.set_string(op, "ditto.format", str(fxp))
    if natural is not None and natural != fxp:
        ir.set_string(op, "ditto.natural", str(natural))


def _record_operands(op: ir.Op, formats: dict[ir.Value, Fxp]) -> None:
    ir.set_string(
        op, "ditto.operands", ",".join(str(formats[each]) if each in formats else "-" for each in op.operands)
    )


def _finish_arguments(state: _State, module: ir.Module) -> None:
    """Arguments that no operation fixed take the format of a rule for inputs, or the default."""
    formats = []
    for argument in ir.arguments(module):
        if not state.secret[argument]:
            formats.append("-")
            continue
        if state.formats[argument] is None:
            _current(state, argument, state.choose("input", "").format)
        formats.append(str(state.formats[argument]))
    ir.set_string(ir.main(module), "ditto.arguments", ",".join(formats))
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        if ir.attribute(op, "ditto.format") == "argument":
            fxp = state.formats[op.results[0]]
            ir.set_string(op, "ditto.format", str(fxp))
            _record_operands(
                op, {each: fxp for each in op.operands if state.secret[each] and fxp is not None}
            )
