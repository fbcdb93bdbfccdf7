"""A product by a power of two moves the point. Arguments that meet such a value keep their fraction bits."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto

P = np.array([0.3517, -1.4265, 0.0367], np.float32)
R = np.array([2.0, -0.5, 3.0], np.float32)


@pytest.mark.parametrize(
    "fn",
    [
        lambda p, r: p - jnp.sign(r) * 0.25,
        lambda p, r: p + r * 4096,
        lambda p, r: p + (-(r * 2.0**14)).reshape(3),
        lambda p, r: jnp.concatenate([jnp.sign(r) * 0.5, p]),
        lambda p, r: (p + jnp.floor(r) * 2) * 0.5,
        lambda p, r: p[::-1] + (r > 0).astype(jnp.float32) * 8,
    ],
)
def test_arguments_keep_their_bits(fn: Callable[[Any, Any], Any]) -> None:
    right = np.asarray(fn(jnp.asarray(P), jnp.asarray(R)), np.float64)
    np.testing.assert_allclose(ditto.secure(fn)(P, R), right, atol=1e-4, rtol=1e-6)
