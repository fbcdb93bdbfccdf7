"""Steps of training with secret data, labels and parameters: gradients and updates are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import ditto_spu as ditto

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(8, 6)).astype(np.float32), rng.integers(0, 4, 8).astype(np.int32)
PARAMETERS = {
    "first": (rng.normal(size=(6, 5)) * 0.5).astype(np.float32),
    "shift": np.zeros(5, np.float32),
    "second": (rng.normal(size=(5, 4)) * 0.5).astype(np.float32),
}
IMAGE = np.round(rng.normal(size=(2, 6, 6, 4)) * 2).astype(np.float32) / 2  # windows have equal elements
TABLE = np.float32([[1, 2, 2, -1], [0, 0, 3, 3]])


def loss(parameters: Any, x: Any, y: Any) -> Any:
    hidden = jax.nn.relu(x @ parameters["first"] + parameters["shift"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ parameters["second"], y).mean()


def by_hand(parameters: Any, x: Any, y: Any) -> Any:
    scores = jax.nn.log_softmax(jnp.tanh(x @ parameters["first"]) @ parameters["second"])
    return -scores[jnp.arange(len(y)), y].mean()


def step(optimiser: Any) -> Callable[..., Any]:
    def update(parameters: Any, x: Any, y: Any) -> Any:
        state = optimiser.init(parameters)
        changes, state = optimiser.update(jax.grad(loss)(parameters, x, y), state, parameters)
        return optax.apply_updates(parameters, changes)

    return update


def check(fn: Callable[..., Any], *args: Any, atol: float = 5e-4, **options: Any) -> None:
    got, expected = ditto.secure(fn, seed=1, **options)(*args), jax.jit(fn)(*args)
    for mine, plain in zip(*map(jax.tree_util.tree_leaves, (got, expected)), strict=True):
        np.testing.assert_allclose(mine, plain, atol=atol)


@pytest.mark.parametrize("public", [(), ("y",)])
def test_gradients_of_a_loss_with_integer_labels(public: tuple[str, ...]) -> None:
    check(jax.grad(loss), PARAMETERS, X, Y, public=public)


def test_a_loss_that_indexes_by_labels() -> None:
    check(jax.grad(by_hand), PARAMETERS, X, Y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimiser",
    [optax.sgd(0.1, momentum=0.9, nesterov=True), optax.adagrad(1e-2)],
    ids=["momentum", "adagrad"],
)
def test_steps_of_optimisers(optimiser: Any) -> None:
    check(step(optimiser), PARAMETERS, X, Y)


def test_a_step_of_adam_keeps_the_digits_of_squares_of_gradients() -> None:
    """They are about 1e-7 here, and the update divides by their roots."""
    check(step(optax.adam(1e-2)), PARAMETERS, X, Y)


def squares(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: (fn(*args) ** 2).sum() * 0.05


POOLS: dict[str, Callable[..., Any]] = {
    "apart": lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)),
    "padded": lambda x: nn.max_pool(x, (2, 3), strides=(2, 2), padding=((1, 1), (1, 1))),
    "same": lambda x: nn.max_pool(x, (3, 2), strides=(2, 1), padding="SAME"),
    "overlapping": lambda x: -nn.max_pool(-x, (2, 2), strides=(1, 1)),
    "least": lambda x: lax.reduce_window(x, jnp.inf, lax.min, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "mean": lambda x: nn.avg_pool(x, (2, 2), strides=(2, 2)),
}
QUICK = ("padded", "mean")


@pytest.mark.slow
@pytest.mark.parametrize(
    "pool",
    [pytest.param(POOLS[each], marks=() if each in QUICK else pytest.mark.slow, id=each) for each in POOLS],
)
def test_gradients_of_pooling(pool: Callable[..., Any]) -> None:
    check(jax.grad(squares(pool)), IMAGE)


def test_gradients_of_depthwise_convolutions() -> None:
    def depthwise(x: Any, kernel: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=4
        )

    kernel = (rng.normal(size=(3, 3, 1, 4)) * 0.3).astype(np.float32)
    check(jax.grad(squares(depthwise), argnums=(0, 1)), IMAGE, kernel)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (jax.grad(lambda x: (jnp.sort(x, axis=1) * jnp.arange(4)).sum()), (TABLE,)),
        (jax.grad(lambda x: jnp.median(x[:, :3], axis=1).sum()), (TABLE,)),
        (jax.grad(lambda x, i: (x[i] ** 2).sum()), (X, Y)),
        (lambda x, i: x.at[jnp.arange(8), i].set(7.0), (X, Y)),
        (lambda x, i: x.at[jnp.arange(8)[:, None], i[:, None] + jnp.array([0, 0])].add(1.0), (X, Y)),
        (lambda x, i: x.at[jnp.array([3, 3, 3, 1]), i[:4]].set(jnp.arange(4.0)), (X, Y)),
        (lambda x, i: x.at[jnp.arange(8), i + 4].add(1.0, mode="drop"), (X, Y)),
        (lambda x, i: jnp.stack([x, x]).at[:, jnp.arange(8), i].set(jnp.arange(8.0)), (X, Y)),
    ],
    ids=["sort", "median", "rows", "set", "twice", "last wins", "dropped", "windows"],
)
def test_updates_at_places_of_which_a_coordinate_is_secret(fn: Callable[..., Any], args: Any) -> None:
    check(fn, *map(jnp.asarray, args))
