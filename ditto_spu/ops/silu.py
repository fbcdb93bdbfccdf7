"""Compute SiLU, which is x times the logistic function of x.

JAX writes `jax.nn.silu(x)` or `jax.nn.swish(x)`, which becomes a product of x with `stablehlo.logistic`. The
pattern finds this product.
"""

import jax
from jax import Array

from ditto_kernels.activation.series_tables import SILU as CURVE
from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE
from ditto_spu import ir
from ditto_spu.ir.arithmetic import binary, kind
from ditto_spu.ops import observed, puma_formulas
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.gelu import polynomial_reads
from ditto_spu.ops.kernel_formats import NARROW, PRECISE_FORM, curve_formats, curve_ladder
from ditto_spu.ops.match import Match
from ditto_spu.ops.op import Approximation, Op, Pattern, Sample
from ditto_spu.ops.tries import Tries


def silu(x: Array) -> Array:
    """Return x times the logistic function of x."""
    return x * jax.nn.sigmoid(x)


def match_silu(root: ir.Op) -> Match | None:
    """Match x * logistic(x).

    The pass `simplify` has already turned every way to write the logistic function into one operation.
    """
    for x, step in binary(root):
        op = ir.define(step)
        if kind(op) == "logistic" and op is not None and op.operands[0] == x:
            return Match((x,))
    return None


SILU = Op(
    name="silu",
    summary="SiLU, x times the logistic function of x",
    kernels={"ditto.silu": "silu"},
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.multiply",), match_silu, silu),
    formats=curve_formats,
    options=("approx",),
    approximations={
        "fourier": Approximation(windowed=True),
        PRECISE: PRECISE_FORM,
        "table": Approximation(windowed=True),
        "even": Approximation(reads=polynomial_reads),
        "cipherdm": Approximation(reads=polynomial_reads),
    },
    steepness=1.1,
    puma=puma_formulas.silu,
    window=CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)
