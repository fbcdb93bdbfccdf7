"""Take the magnitude of every element.

JAX writes `jnp.abs(x)`, which is `stablehlo.abs`, so no pattern is needed.
"""

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of
from ditto_spu.ops.observed import operand
from ditto_spu.ops.op import Choice, Chooser, Formats, Op
from ditto_spu.ops.tries import Tries


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Leave the operand in its format, which the result takes too."""
    del default
    formats = operands_of(chooser, op, choice, main=1)
    return Formats(formats, formats[op.operands[0]])


ABS = Op(
    name="abs",
    summary="the magnitude",
    kernels={"stablehlo.abs": "abs"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("format",),  # the result has the format of the operand
    mixed=lambda op: True,
    facts=operand,
    search=Tries(slopes=slopes.passed),
)
