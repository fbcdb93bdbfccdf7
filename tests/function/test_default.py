"""The default configuration is right where nothing is known of the ranges of values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError
from ditto_spu.rules.load import DEFAULT, configurations

F = np.float32


def vector(*values: float) -> np.ndarray:
    return np.array(values, F)


def test_the_default_is_a_configuration():
    assert DEFAULT in configurations()


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (lambda x, w: x @ w + 50, (vector(3, 2, 120), vector(10, 15, 2.5))),
        (lambda x, w: x @ w, (vector(100), vector(1))),
        (lambda x, w: x @ w, (vector(60), vector(1))),
        (lambda x, w: x @ w, (vector(100, 1000), vector(100, 1000))),
        (lambda x: x + x, (F(6e5),)),
        (lambda x: x + x, (F(-2.1e6),)),
        (lambda x: jnp.sum(x * x), (np.full(200, 1e2, F),)),
        (lambda x, y: x * y, (F(2000), F(2000))),
        (lambda x, y: jnp.maximum(x, y), (F(6e5), F(-6e5))),
        (lambda x: jax.nn.softmax(x), (vector(500, 0, -500),)),
        (lambda x: jax.nn.gelu(x), (vector(-31, -100, 100, 0.5),)),
        (lambda x, w: x * w, (vector(5e4, 3.0), vector(0.02, 0.25))),
        (lambda x: jnp.tanh(x * 1e3), (vector(-2, -1e-3, 0, 1e-3, 2),)),
    ],
)
def test_right_values(fn, args):
    want = np.asarray(fn(*args))
    np.testing.assert_allclose(ditto.secure(fn)(*args), want, rtol=2e-3, atol=5e-3)


def test_beyond_its_range_it_refuses():
    with pytest.raises(RangeError, match="multiply at"):
        ditto.secure(lambda x, y: x * y)(F(1e5), F(1e5))
