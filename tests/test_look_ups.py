"""Look-ups are JAX's, or refused: negative ids, ids out of range, tables of every rank and dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

import ditto_spu as ditto
from ditto_spu.errors import RangeError

TABLE = np.arange(28, dtype=np.float32).reshape(7, 4) / 4 - 3
IDS = np.array([[0, 6, 3], [2, 2, 1]], np.int32)
ANY = np.array([0, 6, 7, 9, -1, -7, -8, -30], np.int32)  # row 7 does not exist

SECRECY = [(), ("table",), ("ids",)]


def look(fn: Callable[..., Any], table: Any, ids: Any, public: tuple[str, ...] = (), **options: Any) -> None:
    """Hold a look-up against plain JAX: equal shapes and dtypes, and values to 1e-3."""
    got = np.asarray(ditto.secure(fn, public=public, **options)(table, ids))
    expected = np.asarray(jax.jit(fn)(table, ids))
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), atol=1e-3)


@pytest.mark.parametrize("public", SECRECY)
@pytest.mark.parametrize("config", ["ditto", "uniform64"])
@pytest.mark.parametrize(
    "fn",
    [
        lambda table, ids: table[ids],
        lambda table, ids: jnp.take(table, ids, axis=0, mode="clip"),
        lambda table, ids: jnp.take(table, ids, axis=0, mode="wrap"),
        lambda table, ids: table.at[ids].get(mode="fill", fill_value=0.5),
    ],
    ids=["wrap and clamp", "clip", "wrap", "fill"],
)
def test_ids_beyond_the_table(fn: Callable[..., Any], config: str, public: tuple[str, ...]) -> None:
    look(fn, TABLE, ANY, public, config=config)


@pytest.mark.parametrize("public", SECRECY)
@pytest.mark.parametrize("index", [3, -2, 11])
def test_one_value_of_a_vector(index: int, public: tuple[str, ...]) -> None:
    look(lambda table, ids: table[ids], TABLE[:, 1].copy(), np.int32(index), public)
    look(
        lambda table, ids: lax.dynamic_index_in_dim(table, ids, keepdims=False),
        TABLE[:, 1].copy(),
        np.int32(index),
        public,
    )


@pytest.mark.parametrize("public", SECRECY)
@pytest.mark.parametrize("shape", [(28,), (7, 2, 2), (7, 1, 4, 1)])
def test_tables_of_every_rank(shape: tuple[int, ...], public: tuple[str, ...]) -> None:
    look(lambda table, ids: jnp.take(table, ids, axis=0), TABLE.reshape(shape), IDS, public)


@pytest.mark.parametrize("public", SECRECY)
@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
def test_tables_of_integers(dtype: Any, public: tuple[str, ...]) -> None:
    table = (np.arange(28).reshape(7, 4) % 5).astype(dtype)
    look(lambda table, ids: table[ids], table, ANY, public)
    look(lambda table, ids: table[ids], table[:, 2].copy(), np.int32(4), public)


def test_the_fill_of_integers_is_a_number() -> None:
    table = np.arange(28, dtype=np.int32).reshape(7, 4)
    look(lambda table, ids: jnp.take(table, ids, axis=0), table, ANY)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8, np.uint32])
def test_ids_of_every_integer_type(dtype: Any) -> None:
    look(lambda table, ids: table[ids], TABLE, np.array([0, 6, 9, 127], dtype))
    look(lambda table, ids: table[ids], np.arange(300, dtype=np.float32), np.array([0, 6, 9, 127], dtype))


@pytest.mark.parametrize("public", SECRECY)
def test_nan_for_an_id_out_of_range_is_refused(public: tuple[str, ...]) -> None:
    fn = ditto.secure(lambda table, ids: jnp.take(table, ids, axis=0), public=public)
    with pytest.raises(RangeError, match=r"test_look_ups\.py:\d+.*out of range.*mode=\"clip\""):
        fn(TABLE, ANY)
    look(lambda table, ids: jnp.take(table, ids, axis=0), TABLE, IDS, public)


def test_nan_along_another_axis_is_refused() -> None:
    fn = ditto.secure(lambda table, ids: jnp.take(table, ids, axis=1), public=("ids",))
    with pytest.raises(RangeError, match="out of range"):
        fn(TABLE, ANY)


def test_negative_ids_where_jax_fills() -> None:
    """They count from the end where the ids are public, or an owner's. Secret ones are refused."""

    def fn(table: Any, ids: Any) -> Any:
        return jnp.take(table, ids, axis=0)

    ids = np.array([0, -1, -7], np.int32)
    look(fn, TABLE, ids, ("ids",))
    look(fn, TABLE, ids, owner={"ids": "client"})
    for public in ((), ("table",)):
        with pytest.raises(RangeError, match="id reached -7 to 0, but admitted are 0 to 6"):
            ditto.secure(fn, public=public)(TABLE, ids)


def test_embed_of_flax_takes_one_kernel_and_no_comparison() -> None:
    def embed(table: Any, ids: Any) -> Any:
        return nn.Embed(7, 4).apply({"params": {"embedding": table}}, ids)

    plan = ditto.secure(embed).lower(TABLE, IDS).as_text()
    assert "embedding" in plan and "spu" not in plan.split("steps")[-1]
    look(embed, TABLE, IDS)


def test_ids_known_to_be_rows_need_no_arithmetic() -> None:
    def places(table: Any, ids: Any) -> Any:
        return table[jnp.clip(ids, 0, 6)]

    text = ditto.secure(places).lower(TABLE, ANY).as_text("fused")
    assert "stablehlo.select" not in text
    look(places, TABLE, ANY)
    look(lambda table, ids: table[jnp.arange(3) + 4] * ids, TABLE, np.float32(2))


def test_look_ups_inside_a_loop() -> None:
    def walk(table: Any, ids: Any) -> Any:
        return lax.scan(lambda total, i: (total + table[i], table[i, 0]), jnp.zeros(4), ids)[1]

    look(walk, TABLE, ANY[:4])
