"""The exponential function."""

import math
from collections.abc import Iterator

from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import Call, Op, Relied, Sample
from ditto_spu.plan.plan import Attributes

TOP = 8.0  # the largest exponent that the kernel serves where no rule declares the range of its result


def extra(call: Call) -> Attributes:
    """A declared range of the result bounds the exponent."""
    declared = call.decision.range
    return () if declared is None else (("hi", math.log(declared)),)


def relies_on(call: Call) -> Iterator[Relied]:
    """The largest exponent; far below it results are exactly zero."""
    declared = call.decision.range
    yield Relied("exponent", -math.inf, math.log(declared) if declared else TOP, fact="operand")


EXPONENTIAL = Op(
    name="exp",
    summary="the exponential function",
    kernels={"stablehlo.exponential": "exponential"},
    kind=Kind.KERNEL,
    formats=first_operand,
    extra=extra,
    relies_on=relies_on,
    facts=observed.operand,
    sample=Sample(limit=4.0),
)
