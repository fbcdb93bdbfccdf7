"""Compute the hyperbolic tangent elementwise.

JAX writes `jnp.tanh(x)`, which is `stablehlo.tanh`, so no pattern is needed. A tanh inside a GeLU belongs to
the composite of the GeLU.
"""

from ditto_kernels.activation.series_tables import TANH as CURVE
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import NARROW, curve_ladder, first_operand
from ditto_spu.ops.op import Approximation, Op, Sample
from ditto_spu.ops.tries import Tries

TANH = Op(
    name="tanh",
    summary="the hyperbolic tangent",
    kernels={"stablehlo.tanh": "tanh"},
    bounds=(-1.0, 1.0),
    kind=Kind.KERNEL,
    formats=first_operand,
    options=("approx",),
    approximations={
        "fourier": Approximation(windowed=True),
        "table": Approximation(windowed=True),
        "odd": Approximation(),
    },
    steepness=1.0,
    window=CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)
