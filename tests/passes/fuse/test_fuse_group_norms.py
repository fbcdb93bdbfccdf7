"""Fuse writes normalisations of groups as LayerNorm of rows, and leaves what only looks like one."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu.api import secure
from tests.passes.fuse.fused import found, fused

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(2, 4, 6, 8)).astype(np.float32) + 0.5
SCALE, SHIFT = RANDOM.uniform(0.5, 2, (2, 8)).astype(np.float32)


def by_flax(module: nn.Module) -> Callable[..., Any]:
    return lambda x, scale, shift: module.apply({"params": {"scale": scale, "bias": shift}}, x)


def by_view(x: Any, scale: Any, shift: Any) -> Any:
    """Return GroupNorm with channels first, as torch computes it."""
    view = jnp.moveaxis(x, -1, 1).reshape(2, 4, -1)
    centred = view - view.mean(-1, keepdims=True)
    normal = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return jnp.moveaxis(normal.reshape(2, 8, 4, 6), 1, -1) * scale + shift


NORMS = {
    "groups": by_flax(nn.GroupNorm(num_groups=4)),
    "groups of two": by_flax(nn.GroupNorm(num_groups=None, group_size=2)),
    "groups, slow variance": by_flax(nn.GroupNorm(num_groups=4, use_fast_variance=False)),
    "instances": by_flax(nn.InstanceNorm()),
    "one group": by_flax(nn.GroupNorm(num_groups=1)),
    "all axes": by_flax(nn.LayerNorm(reduction_axes=(1, 2, 3), feature_axes=-1)),
    "channels first": by_view,
    "no vectors": lambda x, scale, shift: nn.GroupNorm(4, use_scale=False, use_bias=False).apply({}, x),
}


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_of_groups_is_found(norm: str) -> None:
    assert found(fused(NORMS[norm], X, SCALE, SHIFT, tolerance=1e-4)) == {"layer_norm": 1}


def grouped(
    mean: Callable[[Any], Any], square: Callable[[Any], Any], eps: float = 1e-6
) -> Callable[[Any], Any]:
    def norm(x: Any) -> Any:
        groups = x.reshape(2, 4, 6, 4, 2)
        return (groups - mean(groups)) * jax.lax.rsqrt(square(groups - mean(groups)) + eps)

    return norm


def over(*axes: int, by: float = 1.0) -> Callable[[Any], Any]:
    return lambda x: x.mean(axes, keepdims=True) * by


def test_what_only_looks_like_one() -> None:
    mean, spread = over(1, 2, 4), lambda x: over(1, 2, 4)(x * x)
    assert found(fused(grouped(mean, spread), X, tolerance=1e-4)) == {"layer_norm": 1}
    for wrong in (
        grouped(over(1, 4), spread),
        grouped(mean, lambda x: over(1, 4)(x * x)),
        grouped(mean, lambda x: over(1, 2, 4, by=2.0)(x * x)),
        grouped(mean, lambda x: over(1, 2, 4)(x * x)[:, :, :, ::-1]),
        grouped(lambda x: mean(x)[::-1], spread),
    ):
        assert "layer_norm" not in found(fused(wrong, X, tolerance=1e-4))


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_small_and_large_groups_are_right(size: float) -> None:
    norm = NORMS["groups"]
    expected = np.asarray(norm(size * X, SCALE, SHIFT), np.float64)
    np.testing.assert_allclose(secure(norm)(size * X, SCALE, SHIFT), expected, atol=6e-3)
