"""Fuse recognises look-ups in tables, and what happens to ids beyond them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from tests.passes.fuse.fused import found, fused, names, only

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(3, 4, 8)).astype(np.float32)
LOW = np.finfo(np.float32).min


TABLE = RANDOM.normal(size=(11, 5)).astype(np.float32)
IDS = np.array([[0, 3, 10], [2, 2, 7]], np.int32)


FILLED = [
    lambda table, ids: jnp.take(table, ids, axis=0),
    lambda table, ids: table.at[ids].get(mode="fill"),
    lambda table, ids: nn.Embed(11, 5).apply({"params": {"embedding": table}}, ids),
]
CLAMPED = [
    lambda table, ids: table[ids],
    lambda table, ids: jnp.take(table, ids, axis=0, mode="clip"),
    lambda table, ids: table[ids[0, 0]],
]


@pytest.mark.parametrize("public", [(), ("table",), ("ids",)])
@pytest.mark.parametrize("look_up", FILLED + CLAMPED)
def test_look_ups(look_up: Callable[..., Any], public: tuple[str, ...]) -> None:
    module = fused(look_up, TABLE, IDS, public=public)
    assert only(module, "embedding").shapes[0] == (11, 5)
    assert "gather" not in names(module)
    assert "dense<0x7FC00000>" not in ir.text(module), "no NaN is left"


@pytest.mark.parametrize("look_up", FILLED)
def test_secret_ids_in_range_need_no_arithmetic(look_up: Callable[..., Any]) -> None:
    assert not {"compare", "select", "clamp"} & names(fused(look_up, TABLE, IDS))
    assert "select" in names(fused(look_up, TABLE, IDS, public=("ids",))), "negative public ids wrap"


@pytest.mark.parametrize("look_up", CLAMPED)
def test_ids_are_clamped_as_the_program_says(look_up: Callable[..., Any]) -> None:
    assert {"clamp", "maximum", "minimum"} & names(fused(look_up, TABLE, IDS))
    known = fused(lambda table, ids: look_up(table, jnp.clip(ids, 0, 10)), TABLE, IDS)
    assert not {"compare", "select"} & names(known)


def test_public_look_ups_and_other_gathers() -> None:
    module = fused(lambda x, t, i: x + t[i], X[0, :2, :3], TABLE[:, 0], IDS, public=("t", "i"))
    assert found(module) == {}
    assert found(fused(lambda t: t[:, 2], TABLE)) == {}
    assert (
        found(
            fused(
                lambda t, i: jnp.take_along_axis(t, i[:, :2], axis=1), TABLE[:2, :3], IDS % 3, public=("i",)
            )
        )
        == {}
    )
