"""Compute the inverse square root elementwise.

JAX writes `jax.lax.rsqrt(x)`, which is `stablehlo.rsqrt`, so no pattern is needed. An inverse square root
inside a normalisation belongs to the composite of the normalisation.
"""

from collections.abc import Iterator

from ditto_kernels.inverse.whole_range import WHOLE, WINDOW
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import observed, slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.divide import COARSE
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import (
    Approximation,
    Call,
    Choice,
    Chooser,
    Formats,
    KernelCall,
    Op,
    Relied,
    Sample,
)
from ditto_spu.ops.tries import Rung, Tries

ARGUMENTS = (2.0**-9, 256.0)  # the arguments that the kernel serves in its window
OPERAND = Fxp(64, 28)  # the format of an operand that is open, for arguments of any size

WIDE_BITS = 26  # its fraction bits where values have ring 64 anyway


def root_wish(choice: Choice) -> Fxp | None:
    """Return the format in which the operand of a root is wanted."""
    if choice.operand is not None or choice.approx == WINDOW:
        return choice.operand
    if choice.format.ring_bits < OPERAND.ring_bits:
        return OPERAND
    return Fxp(OPERAND.ring_bits, max(choice.format.fraction_bits, WIDE_BITS))


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Give an operand whose format is open the bits that small arguments need."""
    if choice.approx == WINDOW:
        return first_operand(chooser, op, choice, default)
    (operand,) = op.operands
    wanted = root_wish(choice)
    assert wanted is not None
    settled = chooser.settle(operand, wanted)
    return Formats({operand: choice.operand or settled}, default)


def kernel_call(call: Call) -> KernelCall:
    """Return the kernel call, with the form that serves any argument unless a rule asks for the window."""
    attributes = () if call.decision.approx == WINDOW else (("approx", WHOLE),)
    return KernelCall("rsqrt", attributes, tuple(call.op.operands))


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of arguments."""
    assert call.operand is not None
    whole = (COARSE * call.operand.ulp, call.operand.limit / 2)
    low, high = ARGUMENTS if call.decision.approx == WINDOW else whole
    yield Relied("argument", low, high, fact="operand")


RSQRT = Op(
    name="rsqrt",
    summary="the inverse square root, 1/sqrt(x)",
    kernels={"stablehlo.rsqrt": "rsqrt"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    options=("approx",),
    approximations={WHOLE: Approximation(), WINDOW: Approximation()},
    call=kernel_call,
    wish=root_wish,
    relies_on=relies_on,
    facts=observed.operand,
    search=Tries(ladder=lambda op: (Rung(approx=WINDOW),), slopes=slopes.inverse_root),
    sample=Sample(positive={0: 0.01}),
)
