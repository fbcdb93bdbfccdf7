"""Which kernel an operation calls, and with which attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.passes.analysis.classify import KERNEL_OPS, op_name
from ditto_spu.passes.owners.split_adapters import dimensions as adapted_dimensions
from ditto_spu.plan.plan import Attributes

# What a configuration may tell a kernel beyond formats.
KERNEL_OPTIONS = {
    "ditto.gelu": ("approx",),
    "ditto.silu": ("approx",),
    "stablehlo.tanh": ("approx",),
    "stablehlo.logistic": ("approx",),
    "ditto.softmax": ("approx", "inner"),
    "ditto.layer_norm": ("inner",),
    "ditto.rms_norm": ("inner",),
}


def kernel_call(
    op: ir.Op, kind: str, secret: Mapping[ir.Value, bool], reach: Callable[[ir.Value], float | None]
) -> tuple[str, Attributes, list[ir.Value]]:
    """(kernel, attributes, operands) of an operation; `reach`: the declared range of what it reads."""
    operands = list(op.operands)
    if kind == "multiply":
        return "multiply", _declared(op), operands
    if kind == "matmul":
        return _matmul_call(op, operands, secret)
    name = op_name(op)
    attributes: list[tuple[str, object]] = [
        (key, Fxp.parse(value) if key == "inner" else value)
        for key in KERNEL_OPTIONS.get(name, ())
        if (value := ir.attribute(op, f"ditto.{key}")) is not None
    ]
    if name == "stablehlo.reduce":
        return "reduce_max", (("dim", ir.attribute(op, "dimensions")[0]),), operands[:1]
    if name == "ditto.softmax" and (known := reach(operands[0])) is not None:
        attributes.append(("range", known))
    if name.startswith("ditto."):
        attributes += sorted(ir.composite_attributes(op).items())
        return name.removeprefix("ditto."), tuple(attributes), operands
    kernel = KERNEL_OPS[name][0]
    declared = ir.attribute(op, "ditto.range")
    if kernel == "exponential" and declared is not None:
        attributes.append(("hi", math.log(float(declared))))
    return kernel, tuple(attributes), operands


def _declared(op: ir.Op) -> Attributes:
    """What lets a product take a cheaper form: the range that a rule declares for its result."""
    declared = ir.attribute(op, "ditto.range")
    return () if declared is None else (("range", float(declared)),)


def _matmul_call(
    op: ir.Op, operands: list[ir.Value], secret: Mapping[ir.Value, bool]
) -> tuple[str, Attributes, list[ir.Value]]:
    if op_name(op) == "ditto.adapted":
        both = tuple((name, adapted_dimensions(op, name)) for name in ("dims", "adapter_dims"))
        left = bool(ir.composite_attributes(op)["public_left"])
        return "matmul_adapted", (*both, *_public(op, left)), operands
    numbers = "dot_general"
    dims = (
        tuple(ir.dimensions(op, numbers, f"{side}_contracting_dimensions") for side in ("lhs", "rhs")),
        tuple(ir.dimensions(op, numbers, f"{side}_batching_dimensions") for side in ("lhs", "rhs")),
    )
    if all(secret[each] for each in operands):
        return "matmul", (("dims", dims), *_declared(op)), operands
    public_left = secret[operands[1]]
    attributes = (("dims", dims), *_public(op, public_left))
    return "matmul_public", attributes, operands[::-1] if public_left else operands


def _public(op: ir.Op, left: bool) -> Attributes:
    """How a product uses its public operand."""
    bits = Fxp.parse(ir.attribute(op, "ditto.factor")).fraction_bits
    return (("weight_fraction_bits", bits), ("public_left", left), *_declared(op))
