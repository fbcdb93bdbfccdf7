"""Take the maximum or the minimum of two values, or along a dimension.

JAX writes `jnp.maximum(x, y)`, `jax.nn.relu(x)` or `x.min(axis)`. They become `stablehlo.maximum`,
`stablehlo.minimum`, or a `stablehlo.reduce` that repeats one of them, so no pattern is needed.
"""

from collections.abc import Iterator

import jax.numpy as jnp

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.observed import Facts, Operands, extremes, real
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op, Relied
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER

LEAST = "stablehlo.minimum"
ALONG = "stablehlo.reduce"  # along a dimension; its second operand is the least value

_KERNELS = {"stablehlo.maximum": "maximum", LEAST: "minimum", ALONG: "reduce_max"}


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose one format for operands and result, since the largest operand is taken as it is."""
    del default
    along = op.name == ALONG
    formats = operands_of(chooser, op, choice, main=1 if along else 2)
    if along:
        formats.pop(op.operands[1], None)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    meet = meeting(formats)
    return Formats(dict.fromkeys(formats, meet), meet)


def kernel_call(call: Call) -> KernelCall:
    """Return the call of one kernel for two values, and of another along a dimension."""
    operands = tuple(call.op.operands)
    if call.op.name == ALONG:
        (dim,) = ir.attribute(call.op, "dimensions")
        repeated = ir.ops(call.op.regions[0].blocks[0])[0].name
        return KernelCall("reduce_min" if repeated == LEAST else "reduce_max", (("dim", dim),), operands[:1])
    return KernelCall(_KERNELS[call.op.name], (), operands)


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of differences. Comparisons subtract, and the difference must not wrap."""
    if call.operand is None:
        return
    yield Relied("difference", -call.operand.limit, call.operand.limit, fact="difference")


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of the first operand and of the differences."""
    x = real(operands[0])
    facts = {"operand": extremes(x)}
    second = operands[1] if len(operands) > 1 else None
    if op.name == ALONG:
        (dim,) = ir.attribute(op, "dimensions")
        facts["difference"] = extremes(jnp.ptp(x, axis=dim))
    elif second is not None and jnp.issubdtype(second.dtype, jnp.floating):
        facts["difference"] = extremes(x - real(second))
    return facts


MAXIMUM = Op(
    name="maximum",
    summary="the maximum or minimum of two values, or along a dimension",
    kernels=_KERNELS,
    kind=Kind.KERNEL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("format",),  # the result has the format of the operands
    call=kernel_call,
    mixed=lambda op: True,
    relies_on=relies_on,
    facts=observe,
    search=Tries(slopes=slopes.passed),
)
