"""Convert between floats, integers and booleans.

JAX writes `x.astype(dtype)`, which is `stablehlo.convert`, so no pattern is needed. Conversions between
floats are local. A boolean or an integer becomes another type by a cast, and a float becomes an integer by
rounding towards zero.
"""

from __future__ import annotations

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of, whole_format
from ditto_spu.ops.observed import operand
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op
from ditto_spu.plan.plan import INTEGER

BOOLEAN = "i1"
INDICATOR = Fxp(32, 0)  # the format of zeros and ones
WHOLE = Fxp(64, 0)  # the format of other whole numbers
# The integer types to which each is converted without a change of its ring element.
_WIDER = {
    "i8": ("i16", "i32", "i64"),
    "i16": ("i32", "i64"),
    "i32": ("i64",),
    "ui8": ("ui16", "ui32", "i16", "i32", "i64"),
    "ui16": ("ui32", "i32", "i64"),
    "ui32": ("i64",),
    "i64": ("i32",),  # sums that leave 32 bits wrap when they are reconstructed, and so do these
}


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose no fraction bits for converted integers, unless a rule or a consumer wants some."""
    formats = operands_of(chooser, op, choice, main=0)
    if not ir.is_float(op.results[0]):
        return Formats(formats, INTEGER)
    if not chooser.ruled_format(CONVERT.name, ir.path_of(op)):
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

    A number that becomes a boolean is compared with zero, and one that may not fit its new type wraps.
    """
    source, target = ir.element(op.operands[0]), ir.element(op.results[0])
    if target == BOOLEAN:
        return False
    if ir.is_float(op.operands[0]) or ir.is_float(op.results[0]):
        return True
    return source == BOOLEAN or target in _WIDER.get(source, ())


CONVERT = Op(
    name="convert",
    summary="a boolean or an integer as a float, a float as an integer",
    kernels={"stablehlo.convert": "cast"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    ignores=("operand",),  # integers have one format
    call=kernel_call,
    mixed=serves,
    facts=operand,
)
