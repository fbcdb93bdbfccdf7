"""Compute the logistic function elementwise.

JAX writes `jax.nn.sigmoid(x)`. On a CPU it is lowered to 1 / (1 + exp(-x)), which the pass `simplify` turns
into `stablehlo.logistic`, so the record needs no pattern.
"""

from ditto_kernels.activation.series_tables import SIGMOID as CURVE
from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import NARROW, PRECISE_FORM, curve_formats, curve_ladder
from ditto_spu.ops.op import Approximation, Op, Sample
from ditto_spu.ops.tries import Tries

LOGISTIC = "stablehlo.logistic"  # every way to write the function becomes this operation

SIGMOID = Op(
    name="sigmoid",
    summary="the logistic function",
    kernels={LOGISTIC: "sigmoid"},
    bounds=(0.0, 1.0),
    kind=Kind.KERNEL,
    formats=curve_formats,
    options=("approx",),
    approximations={
        "fourier": Approximation(windowed=True),
        PRECISE: PRECISE_FORM,
        "table": Approximation(windowed=True),
        "odd": Approximation(),
    },
    steepness=0.25,
    window=CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)
