"""Divide two values elementwise, where the divisor is secret.

JAX writes `x / y`, which is `stablehlo.divide`, so no pattern is needed. If only the divisor is public, the
pass `linearise` turns the quotient into a product with the inverse. A public dividend stays public.
"""

from collections.abc import Iterator

import jax.numpy as jnp
from jax import Array

from ditto_kernels.inverse.whole_range import WHOLE, WINDOW, fit_quotient
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import observed, slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.observed import Facts, Operands, extremes
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

DIVISORS = (0.5, 1024.0)  # the divisors that the kernel serves in its window
QUOTIENT = 256.0  # the largest quotient that it serves there
OPERANDS = Fxp(64, 22)  # the format of operands that is open, for divisors of any size
COARSE = 64  # a divisor of fewer ulp would be rounded by more than 1 %


def wish(choice: Choice) -> Fxp | None:
    """Return the format in which both operands are wanted. Small divisors need more bits than most values."""
    if choice.operand is not None or choice.approx == WINDOW:
        return choice.operand
    least = choice.format.fraction_bits if choice.format.ring_bits == OPERANDS.ring_bits else 0
    return Fxp(OPERANDS.ring_bits, max(OPERANDS.fraction_bits, least))


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose the formats of both operands, and one for both in the window."""
    if choice.approx == WINDOW:
        formats = operands_of(chooser, op, choice, main=2)
        return Formats(dict.fromkeys(formats, meeting(formats)), default)
    wanted = wish(choice)
    assert wanted is not None
    secret = [each for each in op.operands if chooser.is_secret(each)]
    settled = {each: chooser.settle(each, wanted) for each in secret}
    return Formats({each: choice.operand or fxp for each, fxp in settled.items()}, default)


def times_inverse(x: Array, y: Array) -> Array:
    """Return x / y for a public y, as a product."""
    return x * (1.0 / y)


def kernel_call(call: Call) -> KernelCall:
    """Return the kernel call, with the form that serves any divisor unless a rule asks for the window."""
    attributes = () if call.decision.approx == WINDOW else (("approx", WHOLE),)
    return KernelCall("divide", attributes, tuple(call.op.operands))


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of divisors, and that of quotients."""
    if call.decision.approx == WINDOW:
        yield Relied("divisor", *DIVISORS, fact="second")
        yield Relied("quotient", -QUOTIENT, QUOTIENT)
        return
    assert call.decision.operands is not None
    x, y = call.decision.operands
    assert y is not None
    how = fit_quotient(x, y, call.decision.out)
    yield Relied("size of the divisor", COARSE * y.ulp, how.plan.most * y.ulp, fact="divisor")
    yield Relied("quotient", -how.room, how.room)


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of both operands, and magnitude of the divisor."""
    return {**observed.operand_and_second(op, operands), "divisor": extremes(jnp.abs(operands[1]))}


DIVIDE = Op(
    name="divide",
    summary="a quotient with a secret divisor",
    kernels={"stablehlo.divide": "divide"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    options=("approx",),
    approximations={WHOLE: Approximation(), WINDOW: Approximation()},
    call=kernel_call,
    linear=times_inverse,
    wish=wish,
    relies_on=relies_on,
    facts=observe,
    search=Tries(ladder=lambda op: (Rung(approx=WINDOW),), slopes=slopes.quotient),
    sample=Sample(positive={1: 0.5}),
)
