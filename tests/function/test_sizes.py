"""The default is right for values that are far smaller or larger than 1, as float64 computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import enable_x64

import ditto_spu as ditto

F = np.float32
RNG = np.random.default_rng(8)
X = RNG.standard_normal(8).astype(F)
W = RNG.standard_normal((8, 4)).astype(F)
SMALL = np.array([0.01, -0.01, 0.1, -0.03], F)


def right(fn, *args):
    with enable_x64():
        return np.asarray(fn(*(np.asarray(each, np.float64) for each in args)))


@pytest.mark.parametrize("size", [1e-7, 1e-3, 30.0, 1e6])
def test_public_numbers_of_any_size(size):
    x, n = X * F(np.clip(1e3 / size, 1, 1e6)), F(size)
    for fn in (lambda x, n: x * n, lambda x, n: n * x / 3.0, lambda x, n: x / (1 / n)):
        np.testing.assert_allclose(
            ditto.secure(fn, public=("n",))(x, n), right(fn, x, n), rtol=2e-6, atol=1e-4 + 4e-6 * size
        )


def test_public_numbers_that_differ_in_size():
    n = np.array([1e-6, 1e-3, 1.0, 3.0, -1e4, 0.0, 1e5, -2e-5], F)
    x = X * F(1e3)
    np.testing.assert_allclose(
        ditto.secure(lambda x, n: x * n, public=("n",))(x, n), right(np.multiply, x, n), rtol=2e-6, atol=1e-5
    )


def adam(g):
    m, v = 0.1 * g, 0.001 * g * g
    return (m / (1 - 0.9)) / (jnp.sqrt(v / (1 - 0.999)) + 1e-8)


@pytest.mark.parametrize(
    ("fn", "args", "tolerance"),
    [
        (lambda x: x @ (W * 1e-4) * 1e4, (X,), 1e-3),
        (lambda x: (x * 1e-3) * x * 1e3, (X,), 2e-2),
        (lambda x: jnp.sqrt(x * x), (X * F(1e-2),), 2e-4),
        (jnp.linalg.norm, (X * F(1e-3),), 3e-5),
        (lambda x: x / jnp.linalg.norm(x), (X * F(1e-3),), 1e-2),
        (jnp.std, (X * F(1e-2),), 1e-4),
        (lambda x: (x - x.mean()) / (x.std() + 1e-5), (X * F(0.03),), 1e-2),
        (adam, (X,), 1e-2),
        (jnp.std, (X * F(1e-3),), 1e-5),
        (lambda x: (x - x.mean()) / x.std(), (X * F(1e-3),), 1e-2),
    ],
    ids=[
        *("matrix", "factors", "root", "norm", "unit vector", "deviation", "z-scores", "Adam"),
        *("small deviation", "z-scores without eps"),
    ],
)
def test_small_values_on_the_way(fn, args, tolerance):
    np.testing.assert_allclose(ditto.secure(fn)(*args), right(fn, *args), atol=tolerance)


@pytest.mark.parametrize("fn", [jnp.tanh, jax.nn.silu, jax.nn.gelu, lambda x: jax.nn.sigmoid(x) - 0.5])
def test_activations_of_small_arguments(fn):
    np.testing.assert_allclose(ditto.secure(fn)(SMALL), right(fn, SMALL), rtol=5e-3, atol=6e-6)


def test_activations_far_from_zero():
    x = np.array([-8, -10, -6, 40, -1e4, 1e4], F)
    for fn in (jax.nn.sigmoid, jax.nn.silu, jax.nn.gelu, jnp.tanh):
        np.testing.assert_allclose(ditto.secure(fn)(x), right(fn, x), atol=2.5e-5)


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (jnp.mean, (np.linspace(2e4, 8e4, 1000, dtype=F),)),
        (lambda x: x.mean(axis=0), (np.linspace(-5e2, 8e4, 400, dtype=F).reshape(200, 2),)),
        (lambda x: x.std(), (np.linspace(0, 1.5e4, 100, dtype=F),)),
        (lambda x: (x - x.mean()) / x.std(), (np.linspace(2e4, 8e4, 50, dtype=F),)),
        (lambda x: jnp.sqrt(x) + x * x, (np.array([1, 100, 3000], F),)),
        (lambda x: jnp.log(x) + x @ x, (np.array([1, 100, 3000], F),)),
    ],
    ids=["salaries", "columns", "spread", "z-scores", "root and square", "logarithm and squares"],
)
def test_large_values_have_room(fn, args):
    np.testing.assert_allclose(ditto.secure(fn)(*args), right(fn, *args), rtol=1e-5, atol=1e-4)
