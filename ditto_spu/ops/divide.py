"""Quotients of two secret values; a public divisor makes a product."""

from collections.abc import Iterator

from jax import Array

from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import meeting, operands_of
from ditto_spu.ops.op import Call, Choice, Chooser, Formats, Op, Relied, Sample

DIVISORS = (0.5, 1024.0)  # what the kernel serves


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Both operands in one format."""
    formats = operands_of(chooser, op, choice, main=2)
    return Formats(dict.fromkeys(formats, meeting(formats)), default)


def times_inverse(x: Array, y: Array) -> Array:
    """x / y for a public y."""
    return x * (1.0 / y)


def relies_on(call: Call) -> Iterator[Relied]:
    """The range of divisors."""
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
