"""Normalise over the last dimension by the root mean square.

Flax writes it as `nn.RMSNorm`, and T5 and Llama write the formula: x times a reciprocal square root of the
mean of squares, perhaps times a scale. The pattern accepts the factors in any order.
"""

from collections.abc import Iterator

import jax.numpy as jnp
from jax import Array

from ditto_kernels.inverse.whole_range import WHOLE, WINDOW
from ditto_kernels.norm.rms_norm import MEAN_SQUARE
from ditto_kernels.norm.whole_norm import serves
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, peel, row_mean, splat, squared, whole
from ditto_spu.ops import puma_formulas
from ditto_spu.ops.decision import Kind
from ditto_spu.ops.kernel_formats import operands_of
from ditto_spu.ops.layer_norm import NORMALISED_TOP, norm_call, settle_rows, sizes, windowed
from ditto_spu.ops.match import Match, factors, is_vector, lies_as, through_converts
from ditto_spu.ops.observed import Facts, Operands, extremes, real
from ditto_spu.ops.op import (
    Approximation,
    Call,
    Choice,
    Chooser,
    Formats,
    Op,
    Pattern,
    Relied,
    Sample,
)
from ditto_spu.ops.row_statistics import deviation, normalised_rows
from ditto_spu.ops.tries import Rung, Tries

WEIGHTS = Fxp(64, 10)  # the format of the weights in the kernel; a data owner rounds to it once


def rms_norm(x: Array, gamma: Array, *, dim: int, eps: float) -> Array:
    """Return x / sqrt(mean(x^2) + eps) * gamma over the last dimension.

    x: [..., n]. gamma: [n].
    """
    del dim
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(mean_square + jnp.asarray(eps, x.dtype)) * gamma


def match_rms_norm(root: ir.Op) -> Match | None:
    """Match a product of x, 1/sqrt(mean(x^2) + eps) and perhaps a vector."""
    value = root.results[0]
    deviations: list[tuple[Seen, float]] = []
    rest: list[Seen] = []
    for seen, divides in factors(whole(value)):
        found = deviation(peel(seen), divides)
        if found is not None:
            deviations.append(found)
        elif divides:
            return None
        elif splat(seen.value) != 1:
            rest.append(seen)
    if len(deviations) != 1 or not 1 <= len(rest) <= 2:
        return None
    mean_square, eps = deviations[0]
    mean = row_mean(mean_square)
    x = None if mean is None else squared(mean[0])
    if mean is None or x is None or mean[1] != len(ir.shape(value)) - 1:
        return None
    if not (eps or serves(ir.shape(x)[-1], centred=False)):
        return None  # without eps a window of mean squares would be a guess
    for place, data in enumerate(rest):
        vectors = [peel(each) for each in rest[:place] + rest[place + 1 :]]
        if (
            through_converts(data.value, x)
            and lies_as(data, value)
            and all(is_vector(each, value) for each in vectors)
        ):
            return _rms_norm(data.value, [each.value for each in vectors], eps)
    return None


def _rms_norm(x: ir.Value, gamma: list[ir.Value], eps: float) -> Match:
    size, dim = ir.shape(x)[-1], len(ir.shape(x)) - 1

    def prepare(x: Array, *vectors: Array) -> tuple[Array, ...]:
        return x, jnp.reshape(vectors[0], (size,)) if vectors else jnp.ones(size, x.dtype)

    return Match((x, *gamma), {"dim": dim, "eps": eps}, prepare)


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Give weights whose format is open the format of the kernel's multiplication.

    Public weights stay public.
    """
    settle_rows(chooser, op, choice, centred=False)
    formats = operands_of(chooser, op, choice, main=1, wishes={1: WEIGHTS}, shared_public=False)
    return Formats(formats, default)


def relies_on(call: Call) -> Iterator[Relied]:
    """List the kernel's range of mean squares, and the range of normalised values."""
    if call.operand is None:
        return
    window = windowed(call.op, call.decision, centred=False)
    yield Relied("mean square", *(MEAN_SQUARE if window else sizes(call, centred=False)), fact="mean square")
    top = min(NORMALISED_TOP, call.decision.out.limit)
    yield Relied("normalised", -top, top)


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element, and mean square of a row that is not zero."""
    del op
    x = real(operands[0])
    squares = jnp.mean(x.astype(jnp.float64) ** 2, axis=-1)
    return {"operand": extremes(x), "mean square": extremes(squares, squares != 0)}


def ladder(op: ir.Op) -> tuple[Rung, ...]:
    """Return the steps: the window of mean squares, then any mean square of rows with 32 bits."""
    del op
    return Rung(operand=Fxp(32, 14), approx=WINDOW), Rung(operand=Fxp(32, 14), approx=WHOLE)


RMS_NORM = Op(
    name="rms_norm",
    summary="root-mean-square normalisation over the last dimension",
    kernels={"ditto.rms_norm": "rms_norm"},
    kind=Kind.KERNEL,
    pattern=Pattern(("stablehlo.multiply", "stablehlo.divide"), match_rms_norm, rms_norm),
    formats=choose_formats,
    options=("approx", "inner"),
    approximations={WHOLE: Approximation(), WINDOW: Approximation()},
    call=lambda call: norm_call(call, "rms_norm", centred=False),
    puma=puma_formulas.rms_norm,
    relies_on=relies_on,
    rows=normalised_rows,
    facts=observe,
    search=Tries(ladder=ladder),
    sample=Sample(rows=True),
)
