"""Compute the hyperbolic tangent elementwise.

JAX writes `jnp.tanh(x)`, which is `stablehlo.tanh`, so no pattern is needed. A tanh inside a GeLU belongs to
the composite of the GeLU.
"""

from ditto_kernels.activation.series_tables import TANH as CURVE
from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import NARROW, PRECISE_FORM, curve_formats, curve_ladder
from ditto_spu.ops.op import Approximation, Op, Sample
from ditto_spu.ops.tries import Tries

TANH = Op(
    name="tanh",
    summary="the hyperbolic tangent",
    kernels={"stablehlo.tanh": "tanh"},
    bounds=(-1.0, 1.0),
    kind=Kind.KERNEL,
    formats=curve_formats,
    options=("approx",),
    approximations={
        "fourier": Approximation(windowed=True),
        PRECISE: PRECISE_FORM,
        "table": Approximation(windowed=True),
        "odd": Approximation(),
    },
    steepness=1.0,
    window=CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)
