"""Divide two secret values elementwise.

JAX writes `x / y`, which is `stablehlo.divide`, so no pattern is needed. If only the divisor is public, the
pass `linearise` turns the quotient into a product with the inverse.
"""

from collections.abc import Iterator

from jax import Array

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, Op, Relied, Sample

DIVISORS = (0.5, 1024.0)  # the range of divisors that the kernel serves


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Choose one format for both operands."""
    formats = operands_of(chooser, op, choice, main=2)
    return Formats(dict.fromkeys(formats, meeting(formats)), default)


def times_inverse(x: Array, y: Array) -> Array:
    """Return x / y for a public y, as a product."""
    return x * (1.0 / y)


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of divisors."""
    del call
    yield Relied("divisor", *DIVISORS, fact="second")


DIVIDE = Op(
    name="divide",
    summary="a quotient of two secret values",
    kernels={"stablehlo.divide": "divide"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    extra=lambda call: (),
    linear=times_inverse,
    relies_on=relies_on,
    facts=observed.operand_and_second,
    sample=Sample(positive={1: 0.5}),
)
