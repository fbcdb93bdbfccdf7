"""Programs that Python cannot trace are refused with the user's line and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import UnsupportedOpError

X = np.linspace(-1, 1, 6, dtype=np.float32)


def branch(x: Any) -> Any:
    return x if x.sum() > 0 else -x


def loop(x: Any) -> Any:
    while x[0] < 3:
        x = x + 1
    return x


def count(x: Any) -> Any:
    return sum(x for _ in range(x.astype(int)[0]))


@pytest.mark.parametrize(
    ("fn", "remedy"),
    [
        (branch, r"jnp\.where or lax\.cond"),
        (loop, r"lax\.fori_loop"),
        (count, r"lax\.fori_loop"),
        (lambda x: x * int(x.sum()), "astype"),
        (lambda x: x * bool(x.sum() > 1), r"jnp\.where"),
        (lambda x: x * float(x.sum()), "astype"),
        (lambda x: x[x > 0], r"jnp\.where"),
        (lambda x: jnp.nonzero(x)[0], "size"),
        (lambda x: jnp.unique(x), "size"),
        (lambda x: np.asarray(x) * 2, r"jax\.numpy"),
        (lambda x: jnp.zeros(x.astype(int)[0]), "static_argnames"),
        (lambda x: [1, 2, 3][x.astype(int)[0]] * x, r"jnp\.take"),
    ],
)
def test_values_that_python_needs(fn: Callable[..., Any], remedy: str) -> None:
    with pytest.raises(UnsupportedOpError, match=rf"test_program_errors\.py:\d+: .*{remedy}"):
        ditto.secure(fn)(X)


def test_errors_of_the_users_own_pass() -> None:
    def wrong(x: Any) -> Any:
        return x @ jnp.zeros((2, 2))

    with pytest.raises(TypeError, match="dot_general"):
        ditto.secure(wrong)(X)
