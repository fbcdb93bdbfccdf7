"""Compute the exponential function elementwise.

JAX writes `jnp.exp(x)` and `jnp.expm1(x)`, which are `stablehlo.exponential` and
`stablehlo.exponential_minus_one`, so no pattern is needed. An exponential inside a
softmax belongs to the composite of the softmax.
"""

import math
from collections.abc import Iterator

from ditto_kernels.inverse.whole_range import WHOLE
from ditto_kernels.softmax.whole_exponential import fit_exponential
from ditto_spu.ops import observed, slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import Call, Op, Relied, Sample, name_of
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import Attributes

MINUS_ONE = "stablehlo.exponential_minus_one"


def extra(call: Call) -> Attributes:
    """Return the bound on the exponent that a declared range of the result implies.

    Without one, the kernel takes the form that serves any exponent.
    """
    declared = call.decision.range
    minus = (("minus", 1),) if name_of(call.op) == MINUS_ONE else ()
    if declared is None:
        return (("approx", WHOLE), *minus)
    return (("hi", math.log(declared + len(minus))), *minus)


def relies_on(call: Call) -> Iterator[Relied]:
    """List the largest exponent. Far below it results are exactly zero."""
    declared = call.decision.range
    if declared is None:
        assert call.operand is not None
        declared = fit_exponential(call.operand, call.decision.out).largest
    elif name_of(call.op) == MINUS_ONE:
        declared += 1
    yield Relied("exponent", -math.inf, math.log(declared), fact="operand")


EXPONENTIAL = Op(
    name="exp",
    summary="the exponential function, and the same less 1",
    kernels={"stablehlo.exponential": "exponential", MINUS_ONE: "exponential"},
    kind=Kind.KERNEL,
    formats=first_operand,
    extra=extra,
    relies_on=relies_on,
    facts=observed.operand,
    search=Tries(slopes=slopes.exponential),
    sample=Sample(limit=4.0),
)
