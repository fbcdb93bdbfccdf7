"""Convert between floats, integers and booleans.

JAX writes `x.astype(dtype)`, which is `stablehlo.convert`, so no pattern is needed. Conversions between
floats are local. A boolean or an integer becomes another type by a cast, and a float becomes an integer by
rounding towards zero.
"""

from __future__ import annotations

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, peel, whole
from ditto_spu.ops.argmax import counts_along
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of, whole_format
from ditto_spu.ops.observed import operand
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER

BOOLEAN = "i1"
INDICATOR = Fxp(32, 0)  # the format of zeros and ones
WHOLE = Fxp(64, 0)  # the format of other whole numbers


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose no fraction bits for converted integers, unless a rule or a consumer wants some."""
    formats = operands_of(chooser, op, choice, main=0)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    if not chooser.ruled_format(CONVERT.name, op):
        whole = INDICATOR if ir.element(op.operands[0]) == BOOLEAN else WHOLE
        default = chooser.wanted(op.results[0]) or whole_format(chooser, op.results[0], whole.ring_bits)
    return Formats(formats, default)


def kernel_call(call: Call) -> KernelCall:
    """Return the call of a cast, or of rounding towards zero."""
    operands = tuple(call.op.operands)
    if ir.is_float(operands[0]):
        return KernelCall("round", (("mode", "zero"),), operands)
    return KernelCall("cast", (), operands)


def serves(op: ir.Op) -> bool:
    """Tell whether the conversion keeps a whole number as it is, or rounds to one.

    A number that becomes a boolean is compared with zero. An integer that does not fit its new type wraps
    when it is reconstructed, and `calibration/wrapped_integers.py` sees to it that nothing reads it before.
    """
    return ir.element(op.results[0]) != BOOLEAN


def one_hot_rows(op: ir.Op, at: ir.At) -> ir.Rows | None:
    """Bound the vectors that `jax.nn.one_hot` returns: at most one position is equal to an index."""
    del at
    compared = ir.define(op.operands[0])
    if kind(compared) != "compare" or compared is None or ir.comparison(compared) != "EQ":
        return None
    for index, places in (compared.operands, tuple(compared.operands)[::-1]):
        seen = peel(whole(index))
        varies = {dim for dim, size in zip(seen.dims, ir.shape(seen.value), strict=True) if size != 1}
        for dim in range(len(ir.shape(places))):
            if dim not in varies and counts_along(places, dim):
                return ir.Rows(dim, 1.0, 1.0)
    return None


CONVERT = Op(
    name="convert",
    summary="a boolean or an integer as a float, a float as an integer",
    kernels={"stablehlo.convert": "cast"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    ignores=("operand",),  # integers have one format
    call=kernel_call,
    mixed=serves,
    rows=one_hot_rows,
    facts=operand,
    search=Tries(decides=True),
)
