"""Order is JAX's: the first among equals comes first, in every sort, and nothing is opened for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ditto_spu as ditto
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.spu.compile import compile_program

TIES = np.array([[2, 5, 5, 1, 5], [7, 7, 7, 7, 1], [-1, -1, 0, -1, 0]], np.float32)
WHOLE = TIES.astype(np.int32)


def order(fn: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Hold what a program orders against plain JAX. Indices and integers are equal."""
    got = jax.tree_util.tree_leaves(ditto.secure(fn, **options)(*args))
    expected = jax.tree_util.tree_leaves(jax.jit(fn)(*args))
    for mine, plain in zip(got, expected, strict=True):
        assert mine.shape == plain.shape and mine.dtype == plain.dtype
        np.testing.assert_allclose(np.float64(mine), np.float64(plain), atol=1e-3)


@pytest.mark.parametrize("config", ["ditto", "uniform64"])
@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.argsort(x, axis=-1),
        lambda x: jnp.argsort(x, axis=0),
        lambda x: jnp.argsort(x, axis=-1, descending=True),
        lambda x: jnp.argsort(x, axis=-1, stable=False),
        lambda x: lax.sort_key_val(x, lax.broadcasted_iota(jnp.int32, x.shape, 1)),
        lambda x: lax.sort_key_val(x, x * 0.5 + jnp.arange(5)),
        lambda x: jnp.lexsort((x[0], x[1])),
        lambda x: lax.sort((x[0], x[1], jnp.arange(5)), num_keys=2),
        lambda x: lax.top_k(x, 3),
        lambda x: jnp.partition(x, 2),
        lambda x: jnp.sort(x, axis=-1)[:, -2:],
        lambda x: jax.vmap(lambda row: row[jnp.argsort(-row)])(x),
    ],
)
def test_equal_elements_keep_their_order(fn: Callable[..., Any], config: str) -> None:
    order(fn, TIES, config=config)


@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.uint8, np.uint32])
def test_integers(dtype: Any) -> None:
    numbers = (WHOLE + 1).astype(dtype)
    order(lambda x: (lax.top_k(x, 4), jnp.argsort(x), jnp.argmax(x, -1), jnp.argmin(x, -1)), numbers)


def test_the_least_integer_is_the_last_of_top_k() -> None:
    order(lambda x: lax.top_k(x, 3), np.array([5, -(2**31), 2**31 - 1], np.int32))


def test_keys_of_booleans_and_of_public_numbers() -> None:
    order(lambda k, v: lax.sort_key_val(k, v), TIES > 1, TIES + np.arange(5, dtype=np.float32))
    order(lambda k, v: lax.sort_key_val(k, v), TIES, TIES + np.arange(5, dtype=np.float32), public=("k",))


@pytest.mark.parametrize("attempt", range(3))
def test_argmax_and_argmin_of_ties(attempt: int) -> None:
    def both(x: Any) -> Any:
        best = jnp.argmax(x, axis=-1)
        return best, jnp.argmin(x, axis=-1), jax.nn.one_hot(best, 5)

    order(both, TIES)
    order(lambda x: both(x + x), TIES)
    order(lambda x: jax.nn.one_hot(jnp.argmax(x - x[:1], axis=-1), 5), TIES)


def test_top_k_and_slices_of_sorts_open_nothing() -> None:
    plan = ditto.secure(lambda x: lax.top_k(x, 2)).lower(TIES).as_text("formats")
    assert "chlo." not in plan and "stablehlo.sort" in plan
    with pytest.raises(UnsupportedOpError, match="opens comparisons"):
        compile_program(
            """func.func public @main(%x: tensor<8xf32>) -> tensor<2xf32> {
              %values, %places = chlo.top_k(%x, k = 2) : tensor<8xf32> -> (tensor<2xf32>, tensor<2xi32>)
              return %values : tensor<2xf32>
            }""",
            (False,),
        )
