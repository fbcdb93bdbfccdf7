"""Functions of scalars, single elements and odd shapes, in narrow and in wide formats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto

OPERATIONS = {
    "tanh": jnp.tanh,
    "gelu": lambda x: jax.nn.gelu(x),
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "exp": jnp.exp,
    "rsqrt": jax.lax.rsqrt,
    "square": lambda x: x * x,
    "relu": lambda x: jnp.maximum(x, 0.2),
    "larger": lambda x: jnp.maximum(x, x * x),
    "softmax": lambda x: jax.nn.softmax(jnp.stack([x, x * 2])),
    "linear": lambda x: x - 3 * x + 1,
}


@pytest.mark.parametrize("shape", [(), (1,), (1, 3, 1)], ids=str)
@pytest.mark.parametrize("config", ["ditto", "uniform64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_of_any_shape(name, config, shape):
    x = np.full(shape, 0.7, np.float32)
    got = ditto.secure(OPERATIONS[name], config=config)(x)
    assert got.shape == OPERATIONS[name](x).shape
    np.testing.assert_allclose(got, OPERATIONS[name](x), atol=0.02)
