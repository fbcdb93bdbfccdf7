"""Bring every element between two bounds.

`jax.lax.clamp(low, x, high)` writes `stablehlo.clamp`, so no pattern is needed. `jnp.clip` writes a maximum
and a minimum.
"""

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.observed import Facts, Operands, extremes
from ditto_spu.ops.op import Choice, Chooser, Formats, Op
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let the secret operands meet in one format, which the result takes too."""
    del default
    formats = operands_of(chooser, op, choice, main=3, shared_public=False)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    meet = meeting(formats)
    return Formats(dict.fromkeys(formats, meet), meet)


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of the lower bound and of the value."""
    del op
    low, value = operands[:2]
    return {"operand": extremes(low), "second": extremes(value)}


CLAMP = Op(
    name="clamp",
    summary="a value between two bounds",
    kernels={"stablehlo.clamp": "clamp"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("format",),  # the result has the format of the operands
    mixed=lambda op: True,
    facts=observe,
    search=Tries(slopes=slopes.passed),
)
