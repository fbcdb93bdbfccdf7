"""Compute the inverse square root elementwise.

JAX writes `jax.lax.rsqrt(x)`, which is `stablehlo.rsqrt`, so no pattern is needed. An inverse square root
inside a normalisation belongs to the composite of the normalisation.
"""

from collections.abc import Iterator

from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import Call, Op, Relied, Sample

ARGUMENTS = (2.0**-9, 256.0)  # the range of arguments that the kernel serves


def relies_on(call: Call) -> Iterator[Relied]:
    """List the range of arguments."""
    del call
    yield Relied("argument", *ARGUMENTS, fact="operand")


RSQRT = Op(
    name="rsqrt",
    summary="the inverse square root, 1/sqrt(x)",
    kernels={"stablehlo.rsqrt": "rsqrt"},
    kind=Kind.KERNEL,
    formats=first_operand,
    extra=lambda call: (),
    relies_on=relies_on,
    facts=observed.operand,
    sample=Sample(positive={0: 0.01}),
)
