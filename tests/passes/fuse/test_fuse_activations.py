"""Fuse recognises SiLU, softplus, Mish, GeLU and clip as people write them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.passes.fuse.fused import found, fused, only

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(3, 4, 8)).astype(np.float32)
LOW = np.finfo(np.float32).min


@pytest.mark.parametrize(
    "silu", [jax.nn.silu, nn.swish, lambda x: x / (1 + jnp.exp(-x)), lambda x: jax.nn.sigmoid(x) * x]
)
def test_silu(silu: Callable[..., Any]) -> None:
    assert found(fused(silu, X)) == {"silu": 1}


def test_what_only_looks_like_silu() -> None:
    assert found(fused(lambda x: x * jax.nn.sigmoid(2 * x), X)) == {}
    assert found(fused(lambda x, y: x * jax.nn.sigmoid(y), X, X)) == {}


@pytest.mark.parametrize(
    "softplus", [jax.nn.softplus, lambda x: jnp.log1p(jnp.exp(x)), lambda x: jnp.log(jnp.exp(x) + 1)]
)
def test_softplus(softplus: Callable[..., Any]) -> None:
    assert found(fused(softplus, X)) == {"softplus": 1}
    assert found(fused(lambda x: x * jnp.tanh(softplus(x)), X)) == {"mish": 1}


def test_mish_and_the_logarithm_of_the_logistic_function() -> None:
    assert found(fused(jax.nn.mish, X)) == {"mish": 1}
    assert found(fused(jax.nn.log_sigmoid, X)) == {"softplus": 1}


def test_what_only_looks_like_softplus_or_mish() -> None:
    assert found(fused(lambda x: jnp.log1p(2 * jnp.exp(x)), X)) == {}
    assert found(fused(lambda x: jnp.log(jnp.exp(x) + 2), X)) == {}
    assert found(fused(lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-x)), X)) == {"softplus": 1}
    assert found(fused(lambda x, y: y * jnp.tanh(jax.nn.softplus(x)), X, X[::-1])) == {"softplus": 1}


@pytest.mark.parametrize(
    ("clip", "count"),
    [
        (lambda x: jnp.clip(x, -0.5, 0.7), 1),
        (lambda x: jnp.maximum(jnp.minimum(x, 0.7), -0.5), 1),
        (jax.nn.relu6, 1),
        (jax.nn.hard_tanh, 0),
        (lambda x: jnp.clip(x, 0.7, -0.5), 0),
        (lambda x: jnp.maximum(x, -0.5), 0),
        (lambda x: jnp.minimum(jnp.maximum(x, -jnp.inf), 0.7), 0),
        (lambda x: jnp.minimum(jnp.maximum(x, x[::-1]), 0.7), 0),
    ],
)
def test_clip(clip: Callable[..., Any], count: int) -> None:
    assert found(fused(clip, X)).get("clip", 0) == count


@pytest.mark.parametrize(
    ("gelu", "approximate"),
    [
        (lambda x: jax.nn.gelu(x, approximate=False), "erf"),
        (lambda x: jax.nn.gelu(x, approximate=True), "tanh"),
        (lambda x: x * 0.5 * (1.0 + jax.scipy.special.erf(x / np.sqrt(2.0).astype(np.float32))), "erf"),
        (lambda x: x * jax.scipy.special.erfc(-x * 0.70710678) / 2, "erf"),
        (lambda x: 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x**3))), "tanh"),
        (lambda x: 0.5 * x * (1 + jnp.tanh(x * 0.7978845608 * (1 + 0.044715 * x * x))), "tanh"),
    ],
)
def test_gelu(gelu: Callable[..., Any], approximate: str) -> None:
    op = only(fused(gelu, X * 3), "gelu")
    assert op.attributes == {"approximate": approximate}


def test_what_only_looks_like_gelu() -> None:
    assert found(fused(lambda x: 0.5 * x * (1 + jnp.tanh(x)), X)) == {}
    assert found(fused(lambda x, y: 0.5 * y * (1 + jax.scipy.special.erf(x * 0.70710678)), X, X[::-1])) == {}
    assert found(fused(lambda x: x * jax.nn.sigmoid(1.702 * x), X)) == {}
    square = X[0, :, :4]
    assert found(fused(lambda x: x * (0.5 * (1 + jax.scipy.special.erf(x * 0.70710678))).T, square)) == {}
