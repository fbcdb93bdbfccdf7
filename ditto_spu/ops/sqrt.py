"""Compute the square root elementwise.

JAX writes `jnp.sqrt(x)`, which is `stablehlo.sqrt`, so no pattern is needed. A square root inside a
normalisation belongs to the composite of the normalisation.
"""

from collections.abc import Iterator

from ditto_spu.ops import observed, slopes
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.op import Call, Op, Relied, Sample
from ditto_spu.ops.rsqrt import choose_formats, root_wish
from ditto_spu.ops.tries import Tries


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of arguments. The root of a value that rounds to 0 is 0."""
    assert call.operand is not None
    yield Relied("argument", 0.0, call.operand.limit / 2, fact="operand")


SQRT = Op(
    name="sqrt",
    summary="the square root",
    kernels={"stablehlo.sqrt": "sqrt"},
    kind=Kind.KERNEL,
    formats=choose_formats,
    extra=lambda call: (),
    wish=root_wish,
    relies_on=relies_on,
    facts=observed.operand,
    search=Tries(slopes=slopes.root),
    sample=Sample(positive={0: 0.01}),
)
