"""Combine booleans: and, or, xor, not.

JAX writes `p & q`, `~p` or `jnp.logical_or`. The same StableHLO operations on integers work on their bits,
and are left to SPU.
"""

from __future__ import annotations

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of
from ditto_spu.ops.observed import Facts, Operands
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op
from ditto_spu.plan.plan import INTEGER

NEGATION = "stablehlo.not"


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Keep booleans as they are shared."""
    del default
    return Formats(operands_of(chooser, op, choice, main=0), INTEGER)


def kernel_call(call: Call) -> KernelCall:
    """Return the call of the kernel: its operation is the last part of the operation's name."""
    operation = call.op.name.partition(".")[2]
    return KernelCall("logic", (("operation", operation),), tuple(call.op.operands))


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return nothing, since booleans have no ranges."""
    del op, operands
    return {}


LOGIC = Op(
    name="logic",
    summary="and, or, xor and not of booleans",
    kernels=dict.fromkeys(("stablehlo.and", "stablehlo.or", "stablehlo.xor", NEGATION), "logic"),
    kind=Kind.KERNEL,
    formats=choose_formats,
    ignores=("format", "operand", "range"),
    call=kernel_call,
    mixed=lambda op: ir.element(op.results[0]) == "i1",
    facts=observe,
)
