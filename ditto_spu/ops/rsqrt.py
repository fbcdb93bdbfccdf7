"""The inverse square root."""

from collections.abc import Iterator

from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import Call, Op, Relied, Sample

ARGUMENTS = (2.0**-9, 256.0)  # what the kernel serves


def relies_on(call: Call) -> Iterator[Relied]:
    """The range of arguments."""
    del call
    yield Relied("argument", *ARGUMENTS, fact="operand")


RSQRT = Op(
    name="rsqrt",
    summary="1/sqrt(x)",
    kernels={"stablehlo.rsqrt": "rsqrt"},
    kind=Kind.KERNEL,
    formats=first_operand,
    extra=lambda call: (),
    relies_on=relies_on,
    facts=observed.operand,
    sample=Sample(positive={0: 0.01}),
)
