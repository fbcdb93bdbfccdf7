"""Results follow reshapes, transposes, powers of two, permutations and parts of a batch, within rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto

X = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)
W = np.random.default_rng(6).normal(size=(4, 4)).astype(np.float32)
ORDER = np.array([3, 0, 5, 1, 4, 2])
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


def layer(x, w):
    y = jax.nn.softmax(x @ w)
    return (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-3) + jnp.tanh(x) / (
        2 + x * x
    )


def linear(x, w):
    return jnp.maximum(x @ w, 0) + jnp.abs(x)


def run(fn, *args):
    return np.asarray(ditto.secure(fn)(*args))


def test_permuting_a_batch_permutes_the_result():
    np.testing.assert_allclose(run(layer, X[ORDER], W), run(layer, X, W)[ORDER], **CLOSE)


def test_a_batch_is_its_parts():
    parts = np.concatenate([run(layer, X[:2], W), run(layer, X[2:], W)])
    np.testing.assert_allclose(run(layer, X, W), parts, **CLOSE)


def test_reshaping_a_batch_reshapes_the_result():
    shaped = run(layer, X.reshape(2, 3, 4), W)
    np.testing.assert_allclose(shaped.reshape(6, 4), run(layer, X, W), **CLOSE)


def test_a_product_of_transposes_is_the_transpose():
    np.testing.assert_allclose(run(lambda x, w: w.T @ x.T, X, W).T, run(jnp.matmul, X, W), **CLOSE)


@pytest.mark.parametrize("exponent", [-4, -1, 3, 9])
def test_powers_of_two_scale_what_is_homogeneous(exponent):
    scale = np.float32(2.0**exponent)
    close = {"rtol": 2e-3, "atol": 2e-3 * max(1.0, float(scale)) / 8}
    np.testing.assert_allclose(run(linear, X * scale, W), run(linear, X, W) * scale, **close)
