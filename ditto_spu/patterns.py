"""The table of patterns that become one `ditto.*` composite each, and how each is recognised."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_spu import ir
from ditto_spu.algebra import (
    Seen,
    affine,
    binary,
    close,
    kind,
    peel,
    polynomial,
    row_mean,
    row_sum,
    splat,
    squared,
    whole,
)
from ditto_spu.expansions import erf


@dataclass(frozen=True)
class Match:
    """What a pattern was found to compute; the JAX function `prepare` makes the operands out of `values`."""

    values: tuple[ir.Value, ...]
    attributes: Mapping[str, int | float | str] = field(default_factory=dict)
    prepare: Callable[..., tuple[Any, ...]] = lambda *values: values


@dataclass(frozen=True)
class Pattern:
    """A composite: the operations its root may be, how it is found, and its meaning, a JAX function."""

    name: str
    roots: tuple[str, ...]
    match: Callable[[ir.Op], Match | None]
    meaning: Callable[..., Array]


# --- softmax ---


def softmax(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """softmax(scale * x) over `dim`, where `mask` is true; a row without any true is 1/n everywhere."""
    x = x * jnp.asarray(scale, x.dtype)
    if mask is None:
        e = jnp.exp(x - jnp.max(x, axis=dim, keepdims=True))
        return e / jnp.sum(e, axis=dim, keepdims=True)
    # The least element takes the place of what is masked: no number beyond a fixed-point format is needed.
    kept = jnp.where(mask, x, jnp.min(x, axis=dim, keepdims=True))
    e = jnp.where(mask, jnp.exp(kept - jnp.max(kept, axis=dim, keepdims=True)), 0)
    e = jnp.where(jnp.any(mask, axis=dim, keepdims=True), e, 1)
    return e / jnp.sum(e, axis=dim, keepdims=True)


def match_softmax(root: ir.Op) -> Match | None:
    """exp(x - c) / sum(exp(x - c)), for any c that is the same along the row: the maximum, as a rule."""
    numerator, denominator = root.operands
    total = row_sum(whole(denominator))
    e = ir.define(_unconverted(numerator))
    if total is None or e is None or kind(e) != "exponential":
        return None
    summed, dim = total
    x = e.operands[0]
    op = ir.define(x)
    if op is not None and kind(op) == "subtract" and _constant_along(op.operands[1], dim):
        x = op.operands[0]
    # jax.nn.softmax(where=...) masks x with -infinity and then again what it sums, which changes nothing.
    plain = _through_converts(summed, numerator)
    if not plain and not (_is_masked_low(x) and _is_masked_sum(summed, numerator)):
        return None
    return Match((x,), {"dim": dim, "scale": 1.0})


def _through_converts(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values differ by float conversions only."""
    return _unconverted(a) == _unconverted(b)


def _unconverted(value: ir.Value) -> ir.Value:
    while kind(op := ir.define(value)) == "convert" and op is not None and ir.is_float(op.operands[0]):
        value = op.operands[0]
    return value


def _is_masked_sum(summed: ir.Value, e: ir.Value) -> bool:
    """Whether `summed` is e where some mask is true and 0 elsewhere."""
    op = ir.define(_unconverted(summed))
    return (
        op is not None
        and kind(op) == "select"
        and splat(op.operands[2]) == 0
        and _through_converts(op.operands[1], e)
    )


def _is_masked_low(x: ir.Value) -> bool:
    """Whether x is select(mask, ..., -infinity or another number far below any score)."""
    op = ir.define(x)
    low = splat(op.operands[2]) if kind(op) == "select" and op is not None else None
    return low is not None and low <= -1e4


def _constant_along(value: ir.Value, dim: int) -> bool:
    """Whether the value was broadcast along `dim` from something that does not depend on it."""
    return dim not in peel(whole(value)).dims


# --- layer norm ---


def layer_norm(x: Array, gamma: Array, beta: Array, *, dim: int, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) * gamma + beta over the last dimension."""
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
    """A product of x - mean, 1/sqrt(variance + eps) and perhaps a vector; perhaps plus a vector."""
    result = root.results[0]
    if kind(root) != "add":
        found = _normalised(result)
        return None if found is None else _layer_norm(found, None)
    for product, vector in binary(root):
        found = _normalised(product)
        if found is not None and _is_vector(peel(whole(vector)), result):
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


def _factors(seen: Seen, depth: int = 6) -> list[tuple[Seen, bool]]:
    """The factors of a product of products and quotients, each with whether it divides."""
    inner = peel(seen)
    if depth and inner.name == "multiply":
        return _factors(inner.operand(0), depth - 1) + _factors(inner.operand(1), depth - 1)
    if depth and inner.name == "divide":
        below = _factors(inner.operand(1), depth - 1)
        return _factors(inner.operand(0), depth - 1) + [(each, not divides) for each, divides in below]
    return [(seen, False)]


def _lies_as(seen: Seen, value: ir.Value) -> bool:
    """Whether a value has the type of the outer one and is neither transposed nor broadcast in it."""
    return seen.value.type == value.type and all(d in (i, None) for i, d in enumerate(seen.dims))


def _normalised(value: ir.Value) -> _Normalised | None:
    x: ir.Value | None = None
    deviations: list[tuple[Seen, float]] = []
    vectors: list[ir.Value] = []
    if kind(ir.define(value)) not in ("multiply", "divide"):
        return None
    for seen, divides in _factors(whole(value)):
        deviation, inner = _deviation(peel(seen), divides), peel(seen)
        if deviation is not None:
            deviations.append(deviation)
        elif not divides and x is None and (centred := _centred(seen)) is not None and _lies_as(seen, value):
            x = centred
        elif splat(seen.value) == 1:
            continue
        elif not divides and _is_vector(inner, value):
            vectors.append(inner.value)
        else:
            return None
    if x is None or len(deviations) != 1 or len(vectors) > 1:
        return None
    variance, eps = deviations[0]
    return _Normalised(x, vectors[0] if vectors else None, eps) if _is_variance(variance, x) else None


def _is_vector(seen: Seen, like: ir.Value) -> bool:
    """Whether a value is one number for each position along the last dimension of `like`."""
    size, dim = ir.shape(like)[-1:], len(ir.shape(like)) - 1
    elements = math.prod(ir.shape(seen.value))
    long = [d for d, n in zip(seen.dims, ir.shape(seen.value), strict=True) if n != 1]
    return (elements,) == size and long in ([], [dim])


def _centred(seen: Seen) -> ir.Value | None:
    """x, if the value is x - mean(x) over the last dimension."""
    if seen.name != "subtract" or seen.op is None:
        return None
    x = seen.op.operands[0]
    mean = row_mean(whole(seen.op.operands[1]))
    return x if mean == (x, len(ir.shape(x)) - 1) else None


def _deviation(seen: Seen, divides: bool) -> tuple[Seen, float] | None:
    """(variance, eps), if the factor is 1/sqrt(variance + eps)."""
    if seen.name == "power" and seen.op is not None:
        right = close(splat(seen.op.operands[1]), 0.5 if divides else -0.5)
    else:
        right = seen.name == ("sqrt" if divides else "rsqrt")
    if not right:
        return None
    inside = peel(seen.operand(0))
    if inside.name != "add" or inside.op is None:
        return None
    for index in (0, 1):
        eps = splat(inside.op.operands[1 - index])
        if eps is not None:
            return inside.operand(index), eps
    return None


def _is_variance(seen: Seen, x: ir.Value) -> bool:
    """E[(x-m)^2], or E[x^2] - m^2, perhaps at least 0."""
    seen, row = peel(seen), (x, len(ir.shape(x)) - 1)
    if seen.name == "maximum" and seen.op is not None:
        zero = [splat(each) == 0 for each in seen.op.operands]
        seen = peel(seen.operand(zero.index(False))) if sum(zero) == 1 else seen
    if seen.name == "subtract":
        square = row_mean(seen.operand(0))
        other = peel(seen.operand(1))
        mean = squared(other.value)
        return (
            square is not None
            and (squared(square[0]), square[1]) == row
            and mean is not None
            and row_mean(Seen(mean, other.dims)) == row
        )
    mean_square = row_mean(seen)
    inner = squared(mean_square[0]) if mean_square is not None else None
    return inner is not None and mean_square is not None and (_centred(whole(inner)), mean_square[1]) == row


# --- GeLU ---


def gelu(x: Array, *, approximate: str) -> Array:
    """x times the normal distribution function ("erf"), or its usual approximation by tanh."""
    if approximate == "erf":
        return 0.5 * x * (1.0 + erf(x * np.sqrt(0.5).astype(x.dtype)))
    return 0.5 * x * (1.0 + jnp.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x * x * x)))


def match_gelu(root: ir.Op) -> Match | None:
    """0.5 x erfc(-x/sqrt 2), 0.5 x (1 + erf(x/sqrt 2)) or 0.5 x (1 + tanh(...)), the factors in any order."""
    number, rest = 1.0, []
    for seen, divides in _factors(whole(root.results[0])):
        constant = splat(seen.value)
        if constant is None:
            rest.append((seen, divides))
        elif divides and constant == 0:
            return None
        else:
            number = number / constant if divides else number * constant
    if len(rest) != 2 or any(divides or not _lies_as(seen, root.results[0]) for seen, divides in rest):
        return None
    for (x, _), (other, _) in (rest, rest[::-1]):
        step = affine(other)
        approximate = _step(step.base, x.value)
        # 0.5 (1 + step), or the same with erfc = 1 - erf: one half of erfc(-u).
        scaled = (number * step.factor, number * step.offset)
        expected = (0.5, 0.0) if approximate == "erfc" else (0.5, 0.5)
        if (
            approximate
            and _lies_as(step.base, root.results[0])
            and close(scaled[0], expected[0])
            and abs(scaled[1] - expected[1]) < 1e-3
        ):
            return Match((x.value,), {"approximate": "tanh" if approximate == "tanh" else "erf"})
    return None


def _step(seen: Seen, x: ir.Value) -> str:
    """Which smooth step of x a value is, with the argument GeLU gives it: "erf", "erfc", "tanh" or ''."""
    if seen.name not in ("erf", "erfc", "tanh") or seen.op is None:
        return ""
    argument = polynomial(seen.op.operands[0], x) or {}
    slope = math.sqrt(2 / math.pi) if seen.name == "tanh" else math.sqrt(0.5)
    wanted = {1: -slope if seen.name == "erfc" else slope}
    if seen.name == "tanh":
        wanted[3] = slope * 0.044715
    got = {power: c for power, c in argument.items() if c != 0}
    return seen.name if set(got) == set(wanted) and all(close(got[p], wanted[p]) for p in got) else ""


# --- embedding ---


def embedding(table: Array, ids: Array) -> Array:
    """Row ids[...] of the table; an index outside it takes the nearest row."""
    return jnp.take(table, ids, axis=0, mode="clip")


def match_embedding(root: ir.Op) -> Match | None:
    """A gather of whole rows, without what JAX adds for negative indices and for those out of range."""
    if kind(root) == "select":
        # jnp.take: select(index in range, rows, NaN).
        rows = ir.define(root.operands[1])
        return (
            match_embedding(rows) if rows is not None and kind(rows) == "gather" and _is_fill(root) else None
        )
    if kind(root) == "dynamic_slice":
        return _match_slice(root)
    table, index = root.operands
    sizes, rank = ir.attribute(root, "slice_sizes"), len(ir.shape(index))
    (vector,) = _gathered(root, "index_vector_dim")
    ids_shape = ir.shape(index)[:-1] if vector == rank - 1 else ir.shape(index)
    if (
        tuple(sizes) != (1, *ir.shape(table)[1:])
        or _gathered(root, "collapsed_slice_dims") != (0,)
        or _gathered(root, "start_index_map") != (0,)
        or _gathered(root, "operand_batching_dims")
        or (vector == rank - 1 and ir.shape(index)[-1] != 1)
        or ir.shape(root.results[0]) != (*ids_shape, *ir.shape(table)[1:])
        or _gathered(root, "offset_dims") != tuple(range(len(ids_shape), len(ir.shape(root.results[0]))))
    ):
        return None
    ids = _plain_index(index, ir.shape(table)[0])

    def prepare(table: Array, ids: Array) -> tuple[Array, Array]:
        return table, jnp.reshape(ids, ids_shape)

    return Match((table, ids), {}, prepare)


def _match_slice(root: ir.Op) -> Match | None:
    """table[i] for one i: a slice of one whole row."""
    table, index = root.operands[0], root.operands[1]
    if tuple(ir.attribute(root, "slice_sizes")) != (1, *ir.shape(table)[1:]):
        return None
    ids = _plain_index(index, ir.shape(table)[0])
    return Match((table, ids), {}, lambda table, ids: (table, jnp.reshape(ids, (1,))))


def _gathered(gather: ir.Op, part: str) -> tuple[int, ...]:
    return ir.dimensions(gather, "dimension_numbers", part)


def _is_fill(select: ir.Op) -> bool:
    """Whether the third operand is what jax.numpy gives for an index out of range."""
    fill, kind_ = splat(select.operands[2]), ir.dtype(select.operands[2])
    if fill is None:
        return False
    if kind_.kind in "iu":
        return fill == float(np.iinfo(kind_).min if kind_.kind == "i" else np.iinfo(kind_).max)
    return math.isnan(fill)


def _plain_index(value: ir.Value, rows: int) -> ir.Value:
    """The index before clamping to [0, rows) and before `index < 0 ? index + rows : index`."""
    while (op := ir.define(value)) is not None:
        name = kind(op)
        if name in ("reshape", "broadcast_in_dim") and math.prod(ir.shape(op.operands[0])) == math.prod(
            ir.shape(value)
        ):
            value = op.operands[0]
        elif name == "clamp" and splat(op.operands[0]) == 0 and splat(op.operands[2]) == rows - 1:
            value = op.operands[1]
        elif name == "select" and _is_wrap(op, rows):
            value = op.operands[2]
        else:
            break
    return value


def _is_wrap(select: ir.Op, rows: int) -> bool:
    test, wrapped = (ir.define(each) for each in select.operands[:2])
    plain = select.operands[2]
    return (
        kind(test) == "compare"
        and kind(wrapped) == "add"
        and test is not None
        and wrapped is not None
        and test.operands[0] == plain
        and splat(test.operands[1]) == 0
        and any(a == plain and splat(b) == rows for a, b in binary(wrapped))
    )


# An earlier entry is tried first at the same operation.
TABLE: tuple[Pattern, ...] = (
    Pattern("ditto.softmax", ("stablehlo.divide",), match_softmax, softmax),
    Pattern(
        "ditto.layer_norm",
        ("stablehlo.add", "stablehlo.multiply", "stablehlo.divide"),
        match_layer_norm,
        layer_norm,
    ),
    Pattern("ditto.gelu", ("stablehlo.multiply", "stablehlo.divide"), match_gelu, gelu),
    Pattern(
        "ditto.embedding",
        ("stablehlo.select", "stablehlo.gather", "stablehlo.dynamic_slice"),
        match_embedding,
        embedding,
    ),
)
