"""Round to a fixed-point grid as a JAX function. This is the plaintext meaning of a cast."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def round_to(x: jax.Array, fraction_bits: int) -> jax.Array:
    """Return the nearest value with that many fraction bits."""
    scale = 2.0**fraction_bits
    return jnp.round(x * scale) / scale
