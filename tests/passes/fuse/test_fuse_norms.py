"""Fuse recognises layer and root-mean-square normalisation as people write them."""

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


@pytest.mark.parametrize("use_fast_variance", [True, False])
@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_flax_layer_norm(use_fast_variance: bool, use_scale: bool, use_bias: bool) -> None:
    layer = nn.LayerNorm(
        epsilon=1e-5, use_fast_variance=use_fast_variance, use_scale=use_scale, use_bias=use_bias
    )
    params = jax.tree_util.tree_map(lambda p: p + X[0, 0], layer.init(jax.random.key(0), X))
    op = only(fused(layer.apply, params, X), "layer_norm")
    assert op.attributes == {"dim": 2, "eps": pytest.approx(1e-5)}
    assert op.shapes == [(3, 4, 8), (8,), (8,)]


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x, g, b: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * g + b,
        lambda x, g, b: b + g * ((x - x.mean(-1)[..., None]) * jax.lax.rsqrt(x.var(-1) + 1e-5)[..., None]),
        lambda x, g, b: jax.nn.standardize(x, epsilon=1e-5) * g + b,
        lambda x, g, b: (x - x.mean(-1, keepdims=True)) * (jnp.var(x, -1, keepdims=True) + 1e-5) ** -0.5,
    ],
)
def test_layer_norm_written_by_hand(normalise: Callable[..., Any]) -> None:
    assert found(fused(normalise, X, X[0, 0], X[0, 1])) == {"layer_norm": 1}


def test_another_axis_becomes_rows() -> None:
    def other_axis(x: Any) -> Any:
        return (x - x.mean(-2, keepdims=True)) / jnp.sqrt(x.var(-2, keepdims=True) + 1e-5)

    assert found(fused(other_axis, X)) == {"layer_norm": 1}


def test_what_only_looks_like_layer_norm() -> None:
    def wrong_mean(x: Any, y: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(y.var(-1, keepdims=True) + 1e-5)

    assert found(fused(wrong_mean, X, X[::-1])) == {}


def test_flax_rms_norm() -> None:
    op = only(fused(nn.RMSNorm(epsilon=1e-5).apply, {"params": {"scale": X[0, 0]}}, X), "rms_norm")
    assert op.attributes == {"dim": 2, "eps": pytest.approx(1e-5)}
    assert op.shapes == [(3, 4, 8), (8,)]


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x, g: g * (x / jnp.sqrt(jnp.power(x, 2).mean(-1, keepdims=True) + 1e-6)),  # T5, Llama
        lambda x, g: x * jax.lax.rsqrt(jnp.square(x).mean(-1)[..., None] + 1e-6) * g,
        lambda x, g: x * (jnp.mean(x * x, -1, keepdims=True) + 1e-6) ** -0.5,
        lambda x, g: (x[:1, :1] * jax.lax.rsqrt((x[:1, :1] ** 2).mean(-1, keepdims=True) + 1e-6)) * g,
    ],
)
def test_rms_norm_written_by_hand(normalise: Callable[..., Any]) -> None:
    assert found(fused(normalise, X, X[0, 0])) == {"rms_norm": 1}


def test_what_only_looks_like_rms_norm() -> None:
    def other_axis(x: Any) -> Any:
        return x * jax.lax.rsqrt((x * x).mean(-2, keepdims=True) + 1e-5)

    def other_values(x: Any, y: Any) -> Any:
        return x * jax.lax.rsqrt((y * y).mean(-1, keepdims=True) + 1e-5)

    def total(x: Any) -> Any:
        return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-5)

    assert found(fused(other_axis, X)) == found(fused(other_values, X, X[::-1])) == {}
    assert found(fused(total, X)) == {}
