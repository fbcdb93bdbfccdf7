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
from ditto_spu.passes.fuse.sorting_networks import network
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


@pytest.mark.parametrize("config", ["ditto", pytest.param("uniform64", marks=pytest.mark.slow)])
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


@pytest.mark.parametrize(
    "size", [1, 2, 3, 5, *(pytest.param(each, marks=pytest.mark.slow) for each in (8, 13))]
)
@pytest.mark.parametrize("ties", [False, True])
def test_sizes(size: int, ties: bool) -> None:
    x = np.zeros(size, np.float32) if ties else np.cos(np.arange(size, dtype=np.float32) * 5)
    order(lambda x: (jnp.sort(x), jnp.argsort(x), lax.top_k(x, min(2, size))), x)


@pytest.mark.parametrize("size", range(1, 12))
def test_a_network_sorts_every_array_of_zeros_and_ones_and_a_part_of_it_its_places(size: int) -> None:
    rows = np.array(list(np.ndindex(*[2] * size)), int).reshape(-1, size)
    for wanted in (None, (0, 1)[:size], tuple(range(size))[-1:]):
        got = rows.copy()
        for layer in network(size, wanted):
            for low, high in layer:
                got[:, [low, high]] = np.sort(got[:, [low, high]], axis=1)
        places = list(range(size) if wanted is None else wanted)
        np.testing.assert_array_equal(got[:, places], np.sort(rows, axis=1)[:, places])


@pytest.mark.slow
def test_what_is_made_of_sorts() -> None:
    order(lambda x: (jnp.median(x, axis=1), jnp.quantile(x, 0.3), jnp.percentile(x, 80, axis=0)), TIES)
    order(lambda n: jnp.unique(n, size=8, fill_value=-7), WHOLE)
    order(lambda x: jax.scipy.stats.rankdata(x[0]), TIES)


def test_order_is_that_of_the_exact_values() -> None:
    close = (np.arange(9) % 4 * 2**-18 + 3).astype(np.float64)
    order(lambda x: jnp.argsort(x), close, config={"default": "fxp64.18"})


def test_no_sort_is_left_to_spu() -> None:
    def everything(x: Any) -> Any:
        return jnp.sort(x), lax.top_k(x, 2), jnp.partition(x, 2), jnp.argsort(x), jnp.median(x)

    lowered = ditto.secure(everything).lower(TIES)
    assert "chlo." not in lowered.as_text("formats") and "stablehlo.sort" not in lowered.as_text("formats")
    assert "spu" not in [row.kind for row in lowered.cost_analysis().rows]


def test_the_cost_of_a_sort_does_not_depend_on_values() -> None:
    sort = ditto.secure(lambda x: (jnp.sort(x), lax.top_k(x, 2)))
    equal, distinct = (
        sort.run(np.asarray(each, np.float32)).report for each in (np.ones(9), np.arange(9)[::-1])
    )
    assert equal.bytes_sent_per_party == distinct.bytes_sent_per_party and equal.rounds == distinct.rounds


def test_spu_is_given_no_top_k() -> None:
    with pytest.raises(UnsupportedOpError, match="opens comparisons"):
        compile_program(
            """func.func public @main(%x: tensor<8xf32>) -> tensor<2xf32> {
              %values, %places = chlo.top_k(%x, k = 2) : tensor<8xf32> -> (tensor<2xf32>, tensor<2xi32>)
              return %values : tensor<2xf32>
            }""",
            (False,),
        )
