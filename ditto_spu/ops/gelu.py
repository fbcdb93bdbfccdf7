"""Compute GeLU in its exact form or its form by tanh.

JAX writes `jax.nn.gelu(x, approximate=...)`, which becomes products of x with erf, erfc or tanh. Models also
write the formula themselves. The pattern accepts the factors in any order, and the record lists the
approximations that may take the place of the function.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_kernels.activation.curve import tail_room
from ditto_kernels.activation.series_tables import GELU as CURVE
from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, affine, close, polynomial, splat, whole
from ditto_spu.ops import observed, puma_formulas
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import NARROW, PRECISE_FORM, curve_formats, curve_ladder
from ditto_spu.ops.match import Match, factors, lies_as
from ditto_spu.ops.op import Approximation, Op, Pattern, Sample
from ditto_spu.ops.tries import Tries


def erf(x: Array) -> Array:
    """Compute the error function with operations that SPU runs.

    Error: 1.5e-7 in exact arithmetic.
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    """
    size = jnp.minimum(jnp.abs(x), 4.0)  # erf(4) is 1 - 1.5e-8
    t = 1.0 / (1.0 + 0.3275911 * size)
    total = jnp.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = total * t + coefficient
    return jnp.sign(x) * (1.0 - total * t * jnp.exp(-size * size))


def gelu(x: Array, *, approximate: str) -> Array:
    """Return x times the normal distribution function ("erf"), or its usual approximation ("tanh")."""
    if approximate == "erf":
        return 0.5 * x * (1.0 + erf(x * np.sqrt(0.5).astype(x.dtype)))
    return 0.5 * x * (1.0 + jnp.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x * x * x)))


def match_gelu(root: ir.Op) -> Match | None:
    """Match the three ways to write GeLU, with their factors in any order.

    These are 0.5 x erfc(-x/sqrt 2), 0.5 x (1 + erf(x/sqrt 2)) and 0.5 x (1 + tanh(...)).
    """
    number, rest = 1.0, []
    for seen, divides in factors(whole(root.results[0])):
        constant = splat(seen.value)
        if constant is None:
            rest.append((seen, divides))
        elif divides and constant == 0:
            return None
        else:
            number = number / constant if divides else number * constant
    if len(rest) != 2 or any(divides or not lies_as(seen, root.results[0]) for seen, divides in rest):
        return None
    for (x, _), (other, _) in (rest, rest[::-1]):
        step = affine(other)
        approximate = _step(step.base, x.value)
        # The factor is 0.5 (1 + step), or with erfc = 1 - erf one half of erfc(-u).
        scaled = (number * step.factor, number * step.offset)
        expected = (0.5, 0.0) if approximate == "erfc" else (0.5, 0.5)
        if (
            approximate
            and lies_as(step.base, root.results[0])
            and close(scaled[0], expected[0])
            and abs(scaled[1] - expected[1]) < 1e-3
        ):
            return Match((x.value,), {"approximate": "tanh" if approximate == "tanh" else "erf"})
    return None


def _step(seen: Seen, x: ir.Value) -> str:
    """Tell which smooth step of x a value is: "erf", "erfc", "tanh" or ''.

    The step must have the argument that GeLU gives it.
    """
    if seen.name not in ("erf", "erfc", "tanh") or seen.op is None:
        return ""
    argument = polynomial(seen.op.operands[0], x) or {}
    slope = math.sqrt(2 / math.pi) if seen.name == "tanh" else math.sqrt(0.5)
    wanted = {1: -slope if seen.name == "erfc" else slope}
    if seen.name == "tanh":
        wanted[3] = slope * 0.044715
    got = {power: c for power, c in argument.items() if c != 0}
    return seen.name if set(got) == set(wanted) and all(close(got[p], wanted[p]) for p in got) else ""


def quad(x: Array, *, approximate: str) -> Array:
    """Return MPCFormer's replacement for GeLU, 0.125 x^2 + 0.25 x + 0.5.

    Source: Li et al., MPCFormer, arXiv 2211.01452.
    """
    del approximate
    return 0.125 * x * x + 0.25 * x + 0.5


def quad_reads(fxp: Fxp, out: Fxp) -> float:
    """Return the largest |x| that keeps (x + 1)^2 + 3 < 2^(k - 2 - 2f) in the ring of the square."""
    ring = 32 if fxp.ring_bits <= 32 and fxp.fraction_bits <= 10 else 64
    return min(fxp.limit / 2, math.sqrt(2.0 ** (ring - 2 - 2 * fxp.fraction_bits) - 3) - 1)


def polynomial_reads(fxp: Fxp, out: Fxp) -> float:
    """Return the largest operand that leaves room to compare it with the ends of the pieces."""
    return tail_room(fxp, out, 7)  # no piece ends beyond 7


GELU = Op(
    name="gelu",
    summary="GeLU, in its exact form or its form by tanh",
    kernels={"ditto.gelu": "gelu"},
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.multiply", "stablehlo.divide"), match_gelu, gelu),
    formats=curve_formats,
    options=("approx",),
    approximations={
        "fourier": Approximation(windowed=True),
        PRECISE: PRECISE_FORM,
        "table": Approximation(windowed=True),
        "even": Approximation(reads=polynomial_reads),
        "puma": Approximation(meaning=puma_formulas.gelu, reads=polynomial_reads),
        "quad": Approximation(meaning=quad, needs_training=True, reads=quad_reads),
    },
    steepness=1.13,
    puma=puma_formulas.gelu,
    window=CURVE,
    facts=observed.operand,
    search=Tries(operands=NARROW, ladder=curve_ladder),
    sample=Sample(),
)
