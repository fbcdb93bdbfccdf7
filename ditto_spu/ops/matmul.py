"""Multiply matrices: both secret, one of them public, or one public with a secret adapter.

JAX writes `x @ w`, `jnp.einsum`, `lax.dot_general` or Flax's `nn.Dense`, which all become
`stablehlo.dot_general`, so no pattern is needed. Convolutions and look-ups by an owner's own ids become
products of matrices, too.
"""

from __future__ import annotations

import math

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import table_format
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op
from ditto_spu.ops.products import declared_range, in_ring, secret_factors, truncated, zeros_below_one
from ditto_spu.ops.public_operands import largest
from ditto_spu.ops.tries import Rung, Tries
from ditto_spu.plan.plan import INTEGER, Attributes

ADAPTED = "ditto.adapted"  # x(W + AB) with public W; its operands are x, W, xA and B
ONE_HOT = Fxp(32, 0)
_MOST_BITS = 54  # fraction bits of a product with a small public matrix, which leave it room
Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let the operands meet in one ring, from which the result is truncated.

    The result goes to a smaller ring where that is free.
    """
    if ir.composite_name(op) == ADAPTED:
        return _adapted(chooser, op, choice, default)
    left, right = op.operands
    if not ir.is_float(op.results[0]):  # whole numbers: in ring 64, as sums of them
        secrets = [each for each in (left, right) if chooser.is_secret(each)]
        return Formats(dict.fromkeys(secrets, INTEGER), INTEGER, factor=INTEGER)
    asked = choice.operand or chooser.default_format
    weight = chooser.rules("weight", op).format
    wishes = {right: weight, left: asked}
    one_hot = chooser.is_binary(left)  # the table is exact, unless a range makes rounding cheap
    if one_hot:
        wishes = {left: ONE_HOT, right: table_format(weight if choice.range else default)}
    formats = secret_factors(chooser, op, choice, wishes)
    wide = 32 if one_hot else default.ring_bits  # one-hot rows are long, so they stay in ring 32
    ring = max([32, wide, *(each.ring_bits for each in formats.values())])
    formats = in_ring(formats, ring)
    if len(formats) == 1 and left != right and ring == 64 and choice.range is None:
        bound = largest(next(each for each in (left, right) if each not in formats))
        (secret,) = formats.values()
        weight = _resolved(weight, bound, _MOST_BITS - secret.fraction_bits)
        zeros = zeros_below_one(chooser, op, choice, bound, default.fraction_bits)
        default = Fxp(default.ring_bits, default.fraction_bits + zeros)
    bits = sum((formats.get(each) or weight).fraction_bits for each in (left, right))
    factor = Fxp(ring, weight.fraction_bits) if len(formats) == 1 and left != right else None
    more = len(formats) == 2  # a product of two secret matrices is cheaper when doubled
    return truncated(formats, Fxp(ring, bits), default, bits + more, factor)


def _resolved(weight: Fxp, bound: float | None, most: int) -> Fxp:
    """Give a public factor that is known to be small as many more bits as it has zeros behind the point.

    The product has the same room then, because it is as much smaller. `most` bounds the bits.
    """
    zeros = 0 if not bound else max(0, -math.ceil(math.log2(bound)))
    return Fxp(weight.ring_bits, max(weight.fraction_bits, min(weight.fraction_bits + zeros, most)))


def _adapted(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose one ring for x w + t b, where w is public. b gets the bits that let t b meet x w."""
    x, _, t, b = op.operands
    weight = chooser.rules("weight", op).format
    asked = choice.operand or chooser.default_format
    known = chooser.settle(x, asked)
    formats = {x: choice.operand or known, t: chooser.settle(t, asked)}
    bits = formats[x].fraction_bits + weight.fraction_bits
    ring = max([32, default.ring_bits, *(each.ring_bits for each in formats.values())])
    fitting = Fxp(ring, min(max(2, bits - formats[t].fraction_bits), ring // 2))
    formats[b] = chooser.settle(b, fitting)
    ring = max(ring, formats[b].ring_bits)
    formats = in_ring(formats, ring)
    bits = max(bits, formats[t].fraction_bits + formats[b].fraction_bits)
    return truncated(formats, Fxp(ring, bits), default, bits, Fxp(ring, weight.fraction_bits))


def kernel_call(call: Call) -> KernelCall:
    """Return the call of one of three kernels, depending on which operands are public."""
    op, operands = call.op, tuple(call.op.operands)
    if ir.composite_name(op) == ADAPTED:
        both = tuple((name, adapted_dimensions(op, name)) for name in ("dims", "adapter_dims"))
        left = bool(ir.composite_attributes(op)["public_left"])
        return KernelCall("matmul_adapted", (*both, *_public(call, left)), operands)
    dims = tuple(
        tuple(ir.dimensions(op, "dot_general", f"{side}_{part}_dimensions") for side in ("lhs", "rhs"))
        for part in ("contracting", "batching")
    )
    if all(call.secret(each) for each in operands):
        return KernelCall("matmul", (("dims", dims), *declared_range(call)), operands)
    public_left = call.secret(operands[1])
    attributes = (("dims", dims), *_public(call, public_left))
    return KernelCall("matmul_public", attributes, operands[::-1] if public_left else operands)


def _public(call: Call, left: bool) -> Attributes:
    """Return the attributes that say how a product uses its public operand."""
    assert call.decision.factor is not None
    bits = call.decision.factor.fraction_bits
    return (("weight_fraction_bits", bits), ("public_left", left), *declared_range(call))


def observe(op: ir.Op, operands: observed.Operands) -> observed.Facts:
    """Return the facts about both factors, or about the first one for a product with an adapter."""
    facts = observed.operand if ir.composite_name(op) == ADAPTED else observed.operand_and_second
    return facts(op, operands)


def adapted_dimensions(op: ir.Op, name: str) -> Dimensions:
    """Return a composite's "dims" or "adapter_dims" as dimension numbers of a dot_general.

    The operands are in the order of their product.
    """
    attributes = ir.composite_attributes(op)
    x, w = (int(each) for each in attributes[name].split())
    first, second = (w, x) if attributes["public_left"] else (x, w)
    return ((first,), (second,)), ((), ())


def ladder(op: ir.Op) -> tuple[Rung, ...]:
    """Return steps that each leave the product one more bit of room. Weights give bits first."""
    del op
    weights = (Rung(weight=Fxp(32, bits)) for bits in (14, 13, 12))
    both = ((10, 12), (9, 12), (9, 11), (8, 11))
    return (*weights, *(Rung(operand=Fxp(32, left), weight=Fxp(32, right)) for left, right in both))


MATMUL = Op(
    name="matmul",
    summary="a product of matrices: dot_general and every op that becomes one",
    kernels={"stablehlo.dot_general": "matmul", ADAPTED: "matmul_adapted"},
    kind=Kind.MATMUL,
    formats=choose_formats,
    call=kernel_call,
    mixed=lambda op: op.name == "stablehlo.dot_general",
    facts=observe,
    search=Tries(products=True, ladder=ladder),
)
