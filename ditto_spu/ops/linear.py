"""Cover sums and layout: all operations that each party does on its own components.

JAX writes them as `x + y`, `x.sum()`, `jnp.reshape`, slices and the like, and rules call them all "add". They
need no kernel, so the record lists none, and `classify` recognises them by their names.
"""

from __future__ import annotations

from collections.abc import Sequence

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting
from ditto_spu.ops.op import Choice, Chooser, Formats, Op
from ditto_spu.plan.plan import INTEGER


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let the operands meet in the finest of their formats.

    Shifting left is free, and dropping bits would cost a truncation.
    """
    secrets = [each for each in op.operands if chooser.is_secret(each)]
    if not ir.is_float(op.results[0]):
        return Formats(dict.fromkeys(secrets, INTEGER), INTEGER)
    joined = _sum_of_products(chooser, op, secrets)
    if joined is not None:
        return joined
    known = {each: fxp for each in secrets if (fxp := chooser.known(each)) is not None}
    if not known and len(secrets) == 1:
        return Formats({}, None)  # the consumer of a rearranged argument chooses its format
    target = meeting(known) if known else default
    fewer = len(known) < len(secrets) and target.fraction_bits < default.fraction_bits
    if fewer and (not target.fraction_bits or any(_moved_point(chooser, each) for each in known)):
        target = meeting({**known, op.results[0]: default})  # nobody chose so few bits for an argument
    for each in secrets:
        chooser.settle(each, target)
    return Formats(dict.fromkeys(secrets, target), target)


def _moved_point(chooser: Chooser, value: ir.Value) -> bool:
    """Tell whether a product by a power of two gave a value its fraction bits."""
    pending, seen = [value], set[ir.Value]()
    while pending:
        each = pending.pop()
        maker = ir.define(each)
        decision = None if maker is None or each in seen else chooser.decision(maker)
        seen.add(each)
        if maker is None or decision is None:
            continue
        if decision.kind is Kind.RETAG:
            return True
        if decision.kind is Kind.LOCAL:
            pending += maker.operands
    return False


def _sum_of_products(chooser: Chooser, op: ir.Op, secrets: Sequence[ir.Value]) -> Formats | None:
    """Add two products by public values before truncating them, if they meet here and only here.

    Rotary positions are such sums. The declared ranges must leave room for the sum.
    """
    makers = [maker for each in secrets if (maker := ir.define(each)) is not None]
    alone = all(len(ir.users(each)) == 1 for each in secrets)
    if op.name not in ("stablehlo.add", "stablehlo.subtract") or len(makers) != 2 or not alone:
        return None
    first, second = (chooser.decision(maker) for maker in makers)
    if first is None or second is None or first.kind is not Kind.SCALE or second.kind is not Kind.SCALE:
        return None
    natural, target = first.natural, first.out
    if natural is None or (second.natural, second.out) != (natural, target):
        return None
    if first.range is None or second.range is None or first.range + second.range >= natural.limit / 2:
        return None
    return Formats(dict.fromkeys(secrets, natural), target, natural, untruncated=tuple(makers))


LINEAR = Op(
    name="add",
    summary="any local linear op: add, subtract, negate, sums, layout",
    kernels={},
    kind=Kind.LOCAL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("operand",),  # operands meet in the finest of their formats
)
