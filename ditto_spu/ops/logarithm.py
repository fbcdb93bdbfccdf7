"""Compute the natural logarithm elementwise.

JAX writes `jnp.log(x)` and `jnp.log1p(x)`, which are `stablehlo.log` and `stablehlo.log_plus_one`, so no
pattern is needed.
"""

from collections.abc import Iterator

from ditto_spu.ops import observed, slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.divide import COARSE
from ditto_spu.ops.op import Call, Op, Relied, Sample, name_of
from ditto_spu.ops.rsqrt import choose_formats, root_wish
from ditto_spu.ops.tries import Tries
from ditto_spu.plan.plan import Attributes

LOG_PLUS_ONE = "stablehlo.log_plus_one"


def extra(call: Call) -> Attributes:
    """Tell the kernel what it adds to its operand."""
    return (("plus", 1),) if name_of(call.op) == LOG_PLUS_ONE else ()


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of arguments. JAX returns NaN below zero and minus infinity there: these are refused."""
    assert call.operand is not None
    plus = float(name_of(call.op) == LOG_PLUS_ONE)
    yield Relied("argument", COARSE * call.operand.ulp - plus, call.operand.limit / 2 - plus, fact="operand")


LOGARITHM = Op(
    name="logarithm",
    summary="the natural logarithm, of x or of 1 + x",
    kernels={"stablehlo.log": "log", LOG_PLUS_ONE: "log"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    extra=extra,
    wish=root_wish,
    relies_on=relies_on,
    facts=observed.operand,
    search=Tries(slopes=slopes.logarithm),
    sample=Sample(positive={0: 0.01}),
)
