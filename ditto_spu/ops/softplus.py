"""Compute softplus, which is log(1 + exp(x)), and Mish, which is x times the hyperbolic tangent of softplus.

JAX writes `jax.nn.softplus(x)` as max(x, 0) + log1p(exp(-|x|)), with x in its place where that would be NaN.
Other people write log1p(exp(x)) or log(1 + exp(x)). The patterns find all of them.
"""

import jax
import jax.numpy as jnp
from jax import Array

from ditto_kernels.activation.series_tables import MISH as MISH_CURVE
from ditto_kernels.activation.series_tables import SOFTPLUS as SOFTPLUS_CURVE
from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE
from ditto_spu import ir
from ditto_spu.ir.arithmetic import binary, kind, splat
from ditto_spu.ops import observed
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.gelu import polynomial_reads
from ditto_spu.ops.kernel_formats import NARROW, PRECISE_FORM, curve_formats, curve_ladder
from ditto_spu.ops.match import Match
from ditto_spu.ops.op import Approximation, Op, Pattern, Sample
from ditto_spu.ops.tries import Tries


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x))."""
    return jax.nn.softplus(x)


def mish(x: Array) -> Array:
    """Return x tanh(softplus(x))."""
    return x * jnp.tanh(jax.nn.softplus(x))


def _operand(value: ir.Value | None, name: str) -> ir.Value | None:
    """Return x if the value is the function of that name of x, else None."""
    op = None if value is None else ir.define(value)
    return op.operands[0] if op is not None and kind(op) == name else None


def _beside(value: ir.Value, name: str, number: float) -> ir.Value | None:
    """Return x if the value is a commutative operation of x and a constant, else None."""
    op = ir.define(value)
    if op is None or kind(op) != name:
        return None
    return next((x for x, constant in binary(op) if splat(constant) == number), None)


def _log_of_sum(value: ir.Value) -> ir.Value | None:
    """Return y if the value is log(1 + exp(y)), else None."""
    power = _operand(value, "log_plus_one")
    if power is None and (inside := _operand(value, "log")) is not None:
        power = _beside(inside, "add", 1.0)
    return _operand(power, "exponential")


def softplus_of(value: ir.Value) -> ir.Value | None:
    """Return x if the value is softplus of x, else None."""
    op = ir.define(value)
    if op is None:
        return None
    if kind(op) == "select" and splat(op.operands[0]) == 0:  # JAX asks whether a number is NaN
        return softplus_of(op.operands[2])
    if kind(op) != "add":
        return _log_of_sum(value)
    for larger, rest in binary(op):
        x, exponent = _beside(larger, "maximum", 0.0), _log_of_sum(rest)
        size = _operand(exponent, "negate")
        if x is not None and size is not None and _operand(size, "abs") == x:
            return x
    return None


def match_softplus(root: ir.Op) -> Match | None:
    """Match log(1 + exp(x)), as JAX and others write it."""
    x = softplus_of(root.results[0])
    return None if x is None else Match((x,))


def match_mish(root: ir.Op) -> Match | None:
    """Match x * tanh(softplus(x))."""
    for x, factor in binary(root):
        inside = _operand(factor, "tanh")
        if inside is not None and softplus_of(inside) == x:
            return Match((x,))
    return None


_FORMS = {
    "fourier": Approximation(windowed=True),
    PRECISE: PRECISE_FORM,
    "table": Approximation(windowed=True),
}

SOFTPLUS = Op(
    name="softplus",
    summary="softplus, log(1 + exp(x))",
    kernels={"ditto.softplus": "softplus"},
    kind=Kind.KERNEL,
    pattern=Pattern(
        ("stablehlo.select", "stablehlo.add", "stablehlo.log_plus_one", "stablehlo.log"),
        match_softplus,
        softplus,
    ),
    formats=curve_formats,
    options=("approx",),
    approximations=_FORMS,
    steepness=1.0,
    puma=softplus,
    window=SOFTPLUS_CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)

MISH = Op(
    name="mish",
    summary="Mish, x times the hyperbolic tangent of softplus",
    kernels={"ditto.mish": "mish"},
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.multiply",), match_mish, mish),
    formats=curve_formats,
    options=("approx",),
    approximations={**_FORMS, "cipherdm": Approximation(reads=polynomial_reads)},
    steepness=1.1,
    puma=mish,
    window=MISH_CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)
