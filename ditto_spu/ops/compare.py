"""Compare two values elementwise: the result is a shared boolean.

JAX writes `x < y`, `x == y` and the like, which are `stablehlo.compare`, so no pattern is needed.
"""

from collections.abc import Iterator

import numpy as np

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.observed import Facts, Operands, extremes, operand_and_second, real
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, KernelCall, Op, Relied
from ditto_spu.ops.public_operands import constant
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import INTEGER, Attributes

RETURNED = Fxp(8, 0)  # the format of booleans that are only returned
_BOOLEAN_RING = 8  # holds the difference of two booleans


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Let fixed-point operands meet in one format, which a public operand takes too if it fits."""
    del default
    formats = operands_of(chooser, op, choice, main=2, shared_public=False)
    meet = meeting(formats)
    formats = dict.fromkeys(formats, meet)
    for each in op.operands:
        if ir.is_float(each) and not chooser.is_secret(each) and _fits(each, meet):
            formats[each] = meet
    only_returned = all(reader.name == "func.return" for reader in ir.users(op.results[0]))
    return Formats(formats, RETURNED if only_returned else INTEGER)


def _fits(value: ir.Value, fxp: Fxp) -> bool:
    """Tell whether a public operand has a place in the format. The kernel serves others too."""
    known = constant(value)
    return known is None or bool(np.all(np.abs(np.asarray(known, np.float64)) < fxp.limit / 2))


def kernel_call(call: Call) -> KernelCall:
    """Return the call of the kernel, with the direction of the comparison."""
    attributes: Attributes = (("direction", ir.comparison(call.op)),)
    if ir.element(call.op.operands[0]) == "i1":
        attributes += (("ring", _BOOLEAN_RING),)
    return KernelCall("compare", attributes, tuple(call.op.operands))


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of differences, which must not wrap.

    Equality is right for every difference, and a public operand that does not fit is moved to the ends.
    """
    fit = call.operand is not None and None not in (call.decision.operands or ())
    if fit and ir.is_float(call.op.operands[0]) and ir.comparison(call.op) not in ("EQ", "NE"):
        assert call.operand is not None
        yield Relied("difference", -call.operand.limit, call.operand.limit, fact="difference")


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of both operands and of their differences."""
    facts = dict(operand_and_second(op, operands))
    facts["difference"] = extremes(real(operands[0]) - real(operands[1]))
    return facts


COMPARE = Op(
    name="compare",
    summary="a comparison of two values",
    kernels={"stablehlo.compare": "compare"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    keeps_room=lambda op: True,
    ignores=("format", "range"),  # the result is a boolean
    call=kernel_call,
    mixed=lambda op: True,
    relies_on=relies_on,
    facts=observe,
    search=Tries(decides=True),
)
