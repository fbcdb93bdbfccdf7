"""Round every element to a whole number.

JAX writes `jnp.floor(x)`, `jnp.ceil(x)` and `jnp.round(x)` as operations of StableHLO, so no pattern is
needed.
"""

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of, whole_format
from ditto_spu.ops.observed import operand
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op
from ditto_spu.ops.tries import Tries

_MODES = {
    "stablehlo.floor": "floor",
    "stablehlo.ceil": "ceil",
    "stablehlo.round_nearest_even": "even",
    "stablehlo.round_nearest_afz": "away",
}


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose no fraction bits for the result, unless a rule or a consumer wants some."""
    formats = operands_of(chooser, op, choice, main=1)
    if not chooser.ruled_format(ROUND.name, op):
        ring_bits = max(32, formats[op.operands[0]].ring_bits)
        default = chooser.wanted(op.results[0]) or whole_format(chooser, op.results[0], ring_bits)
    return Formats(formats, default)


def kernel_call(call: Call) -> KernelCall:
    """Return the call of the kernel, with the way to round."""
    return KernelCall("round", (("mode", _MODES[call.op.name]),), tuple(call.op.operands))


ROUND = Op(
    name="round",
    summary="floor, ceil and the nearest whole number",
    kernels=dict.fromkeys(_MODES, "round"),
    kind=Kind.KERNEL,
    formats=choose_formats,
    call=kernel_call,
    facts=operand,
    search=Tries(decides=True),
)
