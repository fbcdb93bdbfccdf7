"""Layer normalisation and root-mean-square normalisation over the last dimension."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, binary, close, kind, peel, row_mean, splat, squared, whole
from ditto_spu.ops.match import Match, factors, is_vector, lies_as, through_converts


def layer_norm(x: Array, gamma: Array, beta: Array, *, dim: int, eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) * gamma + beta over the last dimension."""
    del dim
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + jnp.asarray(eps, x.dtype)) * gamma + beta


def rms_norm(x: Array, gamma: Array, *, dim: int, eps: float) -> Array:
    """x / sqrt(mean(x^2) + eps) * gamma over the last dimension."""
    del dim
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(mean_square + jnp.asarray(eps, x.dtype)) * gamma


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
        deviation, inner = _deviation(peel(seen), divides), peel(seen)
        if deviation is not None:
            deviations.append(deviation)
        elif not divides and x is None and (centred := _centred(seen)) is not None and lies_as(seen, value):
            x = centred
        elif splat(seen.value) == 1:
            continue
        elif not divides and is_vector(inner, value):
            vectors.append(inner.value)
        else:
            return None
    if x is None or len(deviations) != 1 or len(vectors) > 1:
        return None
    variance, eps = deviations[0]
    return _Normalised(x, vectors[0] if vectors else None, eps) if _is_variance(variance, x) else None


def match_rms_norm(root: ir.Op) -> Match | None:
    """A product of x, 1/sqrt(mean(x^2) + eps) and perhaps a vector."""
    value = root.results[0]
    deviations: list[tuple[Seen, float]] = []
    rest: list[Seen] = []
    for seen, divides in factors(whole(value)):
        deviation = _deviation(peel(seen), divides)
        if deviation is not None:
            deviations.append(deviation)
        elif divides:
            return None
        elif splat(seen.value) != 1:
            rest.append(seen)
    if len(deviations) != 1 or not 1 <= len(rest) <= 2:
        return None
    mean_square, eps = deviations[0]
    found = row_mean(mean_square)
    x = None if found is None else squared(found[0])
    if found is None or x is None or found[1] != len(ir.shape(value)) - 1:
        return None
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
