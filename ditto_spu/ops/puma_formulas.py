"""Write PUMA's approximations as JAX functions.

The baseline runs them, and the emulation takes them for approx = "puma".

Source: Dong et al., PUMA: Secure Inference of LLaMA-7B in Five Minutes, arXiv 2307.12533.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

# This number is far below every score, yet so small that SPU's products with it do not leave Z_2^64 at 18
# fraction bits.
MASKED = -20_000.0


def gelu(x: Array, *, approximate: str) -> Array:
    """Approximate both forms of GeLU by polynomials on [-4, -1.95) and [-1.95, 3].

    The result is 0 below the first interval and x above the second.
    Error: 0.0195 at 3.
    """
    del approximate
    below_4, below_2, above_3 = x < -4.0, x < -1.95, x > 3.0
    square = x * x
    cube = square * x
    outer = _polynomial(
        (cube, square, x),
        (-0.011034134030615728, -0.11807612951181953, -0.42226581151983866),
        -0.5054031199708174,
    )
    inner = _polynomial(
        (cube * cube, square * square, square, x),
        (0.0018067462606141187, -0.037688200365904236, 0.3603292692789629, 0.5),
        0.008526321541038084,
    )
    is_outer = jnp.logical_xor(below_4, below_2)
    is_inner = jnp.logical_not(jnp.logical_or(below_2, above_3))
    return _chosen((above_3, x), (is_outer, outer), (is_inner, inner))


def silu(x: Array) -> Array:
    """Approximate SiLU by polynomials on [-8, -4) and [-4, 4], with 0 below and x above."""
    below_8, below_4, above_4 = x < -8.0, x < -4.0, x > 4.0
    square = x * x
    fourth = square * square
    outer = _polynomial((square, x), (-0.0055465625580307, -0.0819767021525476), -0.3067541139982155)
    inner = _polynomial(
        (square * fourth, fourth, square, x),
        (0.0002743776353465, -0.011113046708173, 0.2281430841728270, 0.5),
        0.0085064025895951,
    )
    is_outer = jnp.logical_xor(below_8, below_4)
    is_inner = jnp.logical_not(jnp.logical_or(below_4, above_4))
    return _chosen((above_4, x), (is_outer, outer), (is_inner, inner))


def softmax(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """Compute softmax with exp(x) as (1 + x/32)^32 for x above -14, and as 0 below.

    x is the score minus the maximum of its row, and each row takes one reciprocal.
    Error: 0.0086.
    """
    if scale != 1.0:
        x = x * jnp.asarray(scale, x.dtype)
    if mask is not None:
        x = jnp.where(mask, x, jnp.asarray(MASKED, x.dtype))
    x = x - jnp.max(x, axis=dim, keepdims=True)
    near = x > -14.0
    power = 1.0 + x * (1.0 / 32.0)
    for _ in range(5):
        power = power * power
    e = jnp.where(near, power, 0.0)
    return e * (1.0 / jnp.sum(e, axis=dim, keepdims=True))


def layer_norm(x: Array, gamma: Array, beta: Array, *, dim: int, eps: float) -> Array:
    """Centre each row, and multiply it by one reciprocal square root per row."""
    del dim
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + jnp.asarray(eps, x.dtype)) * gamma + beta


def rms_norm(x: Array, gamma: Array, *, dim: int, eps: float) -> Array:
    """Multiply each row by one reciprocal square root per row."""
    del dim
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + jnp.asarray(eps, x.dtype)) * gamma


def embedding(table: Array, ids: Array) -> Array:
    """Multiply the one-hot vectors of the ids by the table."""
    return jax.nn.one_hot(ids, table.shape[0], dtype=table.dtype) @ table


def public_embedding(table: Array, ids: Array) -> Array:
    """Take the rows at public ids, which needs no protocol."""
    return jnp.take(table, ids, axis=0, mode="clip")


def _polynomial(powers: Sequence[Array], coefficients: Sequence[float], constant: float) -> Array:
    terms = [power * factor for power, factor in zip(powers, coefficients, strict=True)]
    return sum(terms[1:], terms[0]) + constant


def _chosen(*branches: tuple[Array, Array]) -> Array:
    """Add the values whose condition holds.

    A boolean times a number needs no truncation on SPU.
    """
    terms = [condition.astype(value.dtype) * value for condition, value in branches]
    return sum(terms[1:], terms[0])
