"""Write operations of the chlo dialect in terms of StableHLO's. JAX emits them, and SPU refuses them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array


def erf(x: Array) -> Array:
    """Compute the error function with bounded intermediate values, which suits fixed point.

    Error: 1.5e-7 in exact arithmetic.
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
    """
    size = jnp.minimum(jnp.abs(x), 4.0)  # erf(4) is 1 - 1.5e-8
    t = 1.0 / (1.0 + 0.3275911 * size)
    total = jnp.full_like(t, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total = total * t + coefficient
    return jnp.sign(x) * (1.0 - total * t * jnp.exp(-size * size))


def erfc(x: Array) -> Array:
    """Return 1 - erf(x)."""
    return 1.0 - erf(x)


def _square(x: Array) -> Array:
    return x * x


def _sinh(x: Array) -> Array:
    return 0.5 * (jnp.exp(x) - jnp.exp(-x))


def _cosh(x: Array) -> Array:
    return 0.5 * (jnp.exp(x) + jnp.exp(-x))


EXPANSIONS: Mapping[str, Callable[[Any], Any]] = {
    "chlo.erf": erf,
    "chlo.erfc": erfc,
    "chlo.square": _square,
    "chlo.sinh": _sinh,
    "chlo.cosh": _cosh,
}
