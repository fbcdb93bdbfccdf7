"""Compute the sine and the cosine elementwise.

JAX writes `jnp.sin(x)` and `jnp.cos(x)` as operations of StableHLO, so no pattern is needed.
"""

from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import first_operand
from ditto_spu.ops.op import Call, Op, Sample
from ditto_spu.plan.plan import Attributes

_WAVES = {"stablehlo.sine": "sine", "stablehlo.cosine": "cosine"}


def extra(call: Call) -> Attributes:
    """Return the attribute that names the wave."""
    return (("wave", _WAVES[call.op.name]),)


SINE = Op(
    name="sine",
    summary="sine and cosine of any argument",
    kernels=dict.fromkeys(_WAVES, "sine"),
    kind=Kind.KERNEL,
    formats=first_operand,
    extra=extra,
    facts=observed.operand,
    bounds=(-1.0, 1.0),
    sample=Sample(),
)
