"""Whole numbers keep their fractions when something else than whole numbers comes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto

X = np.array([-1.8, 0.35, 2.7, 0.61], np.float32)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.tanh(jnp.floor(x)),
        lambda x: jnp.floor(x).at[0].set(0.5),
        lambda x: jnp.sign(x) + 0.5,
        lambda x: jax.lax.rsqrt(jnp.sign(x) ** 2 + 0.1),
        lambda x: jax.nn.one_hot(jnp.argmax(x), 4) + 0.25,
        lambda x: (x > 0).astype(jnp.float32) + 0.3,
        lambda x: jnp.tanh(jnp.log(jnp.roll((x > 0).astype(jnp.float32), 1) + 0.1)),
        lambda x: jnp.where(x > 0, jnp.floor(x), 0.25),
        lambda x: jnp.cumsum(jnp.ceil(x)) - 0.125,
        lambda x: jnp.sign(x) * jnp.floor(x) + 0.5,
        lambda x: jnp.sign(x) @ jnp.floor(x) + 0.5,
        lambda x: jnp.log((x > 0).astype(jnp.float32) @ jnp.ceil(x) + 0.1),
        lambda x: (jnp.sign(x) - jnp.sign(x).mean()) / jnp.sqrt(jnp.sign(x).var() + 1e-3),
    ],
)
def test_right_values(fn):
    np.testing.assert_allclose(ditto.secure(fn)(X), np.asarray(fn(X)), rtol=2e-3, atol=2e-3)
