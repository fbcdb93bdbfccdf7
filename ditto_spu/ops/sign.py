"""Tell the sign of every element: 1, 0 or -1.

JAX writes `jnp.sign(x)`, which is `stablehlo.sign`, so no pattern is needed.
"""

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of, whole_format
from ditto_spu.ops.observed import operand
from ditto_spu.ops.op import Choice, Chooser, Formats, Op
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER

RING = 32  # the bits of the ring of 1, 0 and -1


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose no fraction bits for the result, unless a rule or a consumer wants some."""
    formats = operands_of(chooser, op, choice, main=1)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    if not chooser.ruled_format(SIGN.name, op):
        default = chooser.wanted(op.results[0]) or whole_format(chooser, op.results[0], RING)
    return Formats(formats, default)


SIGN = Op(
    name="sign",
    summary="the sign: 1, 0 or -1",
    kernels={"stablehlo.sign": "sign"},
    bounds=(-1.0, 1.0),
    kind=Kind.KERNEL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    mixed=lambda op: True,
    facts=operand,
    search=Tries(decides=True),
)
