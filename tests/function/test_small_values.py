"""Rows that do not vary are normalised to 0, and values that are too small for their formats are named."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError, RangeWarning

F = np.float32
RNG = np.random.default_rng(4)
X = RNG.standard_normal((3, 20)).astype(F)


def layer_norm(x: Any, eps: float = 1e-12) -> Any:
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + eps)


def rms_norm(x: Any, eps: float = 1e-12) -> Any:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: layer_norm(jnp.concatenate([jnp.zeros((1, 20)), x])),
        lambda x: layer_norm(jnp.concatenate([jnp.broadcast_to(x[:1, :1], (1, 20)), x])) + 0.5,
        lambda x: layer_norm(jnp.concatenate([jnp.broadcast_to(x[:1, :1] * x[1:2, 1:2], (1, 20)), x])),
        lambda x: rms_norm(jnp.concatenate([jnp.zeros((2, 20)), x])),
    ],
    ids=["zeros", "argument", "computed", "rms of zeros"],
)
def test_rows_that_do_not_vary(fn: Callable[[Any], Any]) -> None:
    with jax.experimental.enable_x64():  # rounding in float32 would be amplified, too
        right = np.asarray(fn(jnp.asarray(X, jnp.float64)))
    np.testing.assert_allclose(ditto.secure(fn)(X), right, atol=2e-3)


def test_rows_that_hardly_vary_are_refused() -> None:
    with pytest.raises(RangeError, match="variance reached"):
        ditto.secure(layer_norm)(X * F(1e-6))


def test_weights_below_the_resolution_of_their_format_are_named() -> None:
    secure = ditto.secure(lambda x, w: x @ w, config={"default": "fxp32.11"})
    with pytest.warns(RangeWarning, match=r"argument 'w': values reach 2e-05, .* fxp32\.11 .*more frac"):
        secure(np.full((2, 4), 5e3, F), np.full((4, 2), 2e-5, F))


def test_a_calibration_names_them_too() -> None:
    secure = ditto.secure(lambda x, w: x @ w, config={"default": "fxp32.11"}, check=False)
    x, w = np.full((2, 4), 5e3, F), np.full((4, 2), 2e-5, F)
    with pytest.warns(RangeWarning, match="argument 'w': values reach 2e-05"):
        secure.with_calibration(secure.calibrate([(x, w)]))(x, w)


@pytest.mark.parametrize("w", [np.zeros((4, 2), F), np.array([[1e-9, 1], [0, 0], [0, 0], [1, 1e-9]], F)])
def test_zeros_and_arrays_with_larger_elements_are_not(w: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ditto.secure(lambda x, w: x @ w)(np.ones((2, 4), F), w)
