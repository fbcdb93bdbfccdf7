"""Normalise over the last dimension, as LayerNorm does.

Flax writes it as `nn.LayerNorm`: a mean, a variance, a reciprocal square root, and perhaps a scale and a
shift. The pattern accepts variances in both usual forms, quotients by a square root, and a missing scale or
shift.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from ditto_kernels.inverse.whole_range import WHOLE, WINDOW
from ditto_kernels.norm.norm_plan import VARIANCE
from ditto_kernels.norm.whole_norm import fit_norm, serves
from ditto_kernels.values.formats import Fxp
from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, binary, kind, peel, splat, whole
from ditto_spu.ops import puma_formulas
from ditto_spu.ops.decision import Decision, Kind
from ditto_spu.ops.kernel_formats import operands_of
from ditto_spu.ops.match import Match, factors, is_vector, lies_as
from ditto_spu.ops.observed import Facts, Operands, extremes, real
from ditto_spu.ops.op import (
    Approximation,
    Call,
    Choice,
    Chooser,
    Formats,
    KernelCall,
    Op,
    Pattern,
    Relied,
    Sample,
    Span,
    composite_attributes,
    options,
)
from ditto_spu.ops.row_statistics import centred, deviation, is_variance, normalised_rows
from ditto_spu.ops.tries import Rung, Tries

OPERAND = Fxp(64, 20)  # the format of an operand that is open, for rows of any size
COARSE = 32  # rows of a deviation of fewer ulp would be rounded by more than 2 % of it
NORMALISED_TOP = 2.0**9  # the largest normalised value that the kernels promise to hold


def layer_norm(x: Array, gamma: Array, beta: Array, *, dim: int, eps: float) -> Array:
    """Return (x - mean) / sqrt(variance + eps) * gamma + beta over the last dimension.

    x: [..., n]. gamma, beta: [n].
    """
    del dim
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + jnp.asarray(eps, x.dtype)) * gamma + beta


@dataclass(frozen=True)
class _Normalised:
    x: ir.Value
    gamma: ir.Value | None
    eps: float


def match_layer_norm(root: ir.Op) -> Match | None:
    """Match a product of x - mean, 1/sqrt(variance + eps) and perhaps a vector.

    A vector may be added to the product.
    """
    result = root.results[0]
    if kind(root) != "add":
        found = _normalised(result)
        return None if found is None else _layer_norm(found, None)
    for product, vector in binary(root):
        found = _normalised(product)
        if found is not None and is_vector(peel(whole(vector)), result):
            return _layer_norm(found, peel(whole(vector)).value)
    return None


def _layer_norm(found: _Normalised, beta: ir.Value | None) -> Match:
    size, dim = ir.shape(found.x)[-1], len(ir.shape(found.x)) - 1
    has_gamma = found.gamma is not None
    values = [found.x, *(each for each in (found.gamma, beta) if each is not None)]

    def prepare(x: Array, *vectors: Array) -> tuple[Array, ...]:
        rows = [jnp.reshape(each, (size,)) for each in vectors]
        gamma = rows.pop(0) if has_gamma else jnp.ones(size, x.dtype)
        return x, gamma, rows[0] if rows else jnp.zeros(size, x.dtype)

    return Match(tuple(values), {"dim": dim, "eps": found.eps}, prepare)


def _normalised(value: ir.Value) -> _Normalised | None:
    x: ir.Value | None = None
    deviations: list[tuple[Seen, float]] = []
    vectors: list[ir.Value] = []
    if kind(ir.define(value)) not in ("multiply", "divide"):
        return None
    for seen, divides in factors(whole(value)):
        found, inner = deviation(peel(seen), divides), peel(seen)
        if found is not None:
            deviations.append(found)
        elif not divides and x is None and (data := centred(seen)) is not None and lies_as(seen, value):
            x = data
        elif splat(seen.value) == 1:
            continue
        elif not divides and is_vector(inner, value):
            vectors.append(inner.value)
        else:
            return None
    if x is None or len(deviations) != 1 or len(vectors) > 1:
        return None
    variance, eps = deviations[0]
    if not is_variance(variance, x) or not (eps or serves(ir.shape(x)[-1], centred=True)):
        return None  # without eps a window of variances would be a guess
    return _Normalised(x, vectors[0] if vectors else None, eps)


def windowed(op: ir.Op, decision: Choice | Decision, centred: bool) -> bool:
    """Tell whether the kernel serves a window of variances.

    A rule asks for it by `approx`, or by `inner`, which is about that form alone. Long rows take it too.
    """
    asked = decision.approx == WINDOW or (decision.approx is None and decision.inner is not None)
    return asked or not serves(ir.shape(op.operands[0])[-1], centred)


def settle_rows(chooser: Chooser, op: ir.Op, choice: Choice, centred: bool) -> None:
    """Give rows whose format is open the bits that small ones need, where the kernel serves any size."""
    rows = op.operands[0]
    if chooser.is_secret(rows) and choice.operand is None and not windowed(op, choice, centred):
        wide = choice.format.ring_bits == OPERAND.ring_bits
        chooser.settle(rows, choice.format if wide else OPERAND)


def choose_formats(chooser: Chooser, op: ir.Op, choice: Choice, default: Fxp) -> Formats:
    """Give vectors whose format is open the kernel's ring.

    They are short, and need no upcast there.
    """
    settle_rows(chooser, op, choice, centred=True)
    vectors = Fxp(64, chooser.default_format.fraction_bits)
    formats = operands_of(chooser, op, choice, main=1, wishes={1: vectors, 2: vectors}, shared_public=False)
    return Formats(formats, default)


def norm_call(call: Call, kernel: str, centred: bool) -> KernelCall:
    """Return the call of a kernel that normalises, in one of its two forms."""
    window = windowed(call.op, call.decision, centred)
    chosen = options(call, ("inner",)) if window else (("approx", WHOLE),)
    return KernelCall(kernel, (*chosen, *composite_attributes(call)), tuple(call.op.operands))


def sizes(call: Call, centred: bool) -> Span:
    """Return the range of variances, or of mean squares, that a kernel serves without a window."""
    assert call.operand is not None and call.decision.operands is not None
    length, eps = ir.shape(call.op.operands[0])[-1], float(str(dict(composite_attributes(call))["eps"]))
    how = fit_norm(length, call.operand, call.decision.operands[1], call.decision.out, eps, centred)
    least = (COARSE * call.operand.ulp) ** 2
    return 0.0 if eps >= least else least, how.largest


def relies_on(call: Call) -> Iterator[Relied]:
    """List the kernel's ranges of variances and means, and the range of normalised values."""
    if call.operand is None:
        return
    top = min(NORMALISED_TOP, call.decision.out.limit)
    if windowed(call.op, call.decision, centred=True):
        mean = 2.0 ** (27 - call.operand.fraction_bits)
        yield Relied("variance", *VARIANCE, fact="variance")
        yield Relied("mean", -mean, mean, fact="mean")
    else:
        yield Relied("variance", *sizes(call, centred=True), fact="variance")
    yield Relied("normalised", -top, top)


def observe(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element and mean of a row, and variance of a row that varies."""
    del op
    x = real(operands[0])
    rows = x.astype(jnp.float64)
    variance = rows.var(axis=-1)
    return {
        "operand": extremes(x),
        "mean": extremes(rows.mean(axis=-1)),
        "variance": extremes(variance, variance != 0),
    }


def ladder(op: ir.Op) -> tuple[Rung, ...]:
    """Return the steps: the window of variances, then any variance of rows with 32 bits."""
    del op
    return Rung(inner=Fxp(64, 14), approx=WINDOW), Rung(operand=Fxp(32, 14), approx=WHOLE)


LAYER_NORM = Op(
    name="layer_norm",
    summary="LayerNorm over the last dimension",
    kernels={"ditto.layer_norm": "layer_norm"},
    kind=Kind.KERNEL,
    pattern=Pattern(
        ("stablehlo.add", "stablehlo.multiply", "stablehlo.divide"), match_layer_norm, layer_norm
    ),
    formats=choose_formats,
    options=("approx", "inner"),
    approximations={WHOLE: Approximation(), WINDOW: Approximation()},
    call=lambda call: norm_call(call, "layer_norm", centred=True),
    puma=puma_formulas.layer_norm,
    relies_on=relies_on,
    rows=normalised_rows,
    facts=observe,
    search=Tries(inner=tuple(Fxp(64, bits) for bits in (12, 13, 14, 15)), ladder=ladder),
    sample=Sample(rows=True),
)
