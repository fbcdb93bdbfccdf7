"""Infinity that only leaves elements out is served, and infinity that would be encoded is refused early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError

X = np.linspace(0.1, 0.9, 6, dtype=np.float32)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.min(jnp.where(x > 0.5, x, jnp.inf)),
        lambda x: jnp.max(jnp.where(x < 0.5, x, -jnp.inf).reshape(2, 3)[:1], axis=1),
        lambda x: jnp.max(x, where=x < 0.5, initial=-jnp.inf),
        lambda x: jnp.minimum(jnp.where(x > 0.5, x, jnp.inf), 0.7),
        lambda x: jnp.clip(x, 0.3, jnp.inf),
        lambda x: jnp.minimum(jnp.inf, jnp.maximum(x, -jnp.inf)),
        lambda x: jax.nn.logsumexp(x, where=x > 0.5),
        lambda x: jnp.sum(jnp.exp(jnp.where(x > 0.5, x, -jnp.inf))),
    ],
)
def test_infinity_leaves_elements_out(fn: Callable[[Any], Any]) -> None:
    assert ditto.secure(fn)(X) == pytest.approx(np.asarray(fn(X)), abs=2e-4)


def test_what_would_be_encoded_is_refused_when_compiling() -> None:
    with pytest.raises(RangeError, match=r"select .*\.py:\d+.*: a constant .* NaN or infinity"):
        ditto.secure(jnp.nanmax).lower(X)
    with pytest.raises(RangeError, match=r"select .*\.py:\d+.*: a constant .* NaN or infinity"):
        ditto.secure(jax.scipy.stats.norm.ppf).lower(X)  # it selects what it has negated


@pytest.mark.parametrize("after", [lambda m: m, lambda m: 2 * m, lambda m: 5 - m, lambda m: m - m / 3])
def test_a_maximum_of_nothing_is_refused(after: Callable[[Any], Any]) -> None:
    with pytest.raises(RangeError, match="output 0 of the program holds NaN or infinity"):
        ditto.secure(lambda x: after(jnp.max(jnp.where(x > 5, x, -jnp.inf))))(X)


def test_large_outputs_without_infinity_are_no_maximum_of_nothing() -> None:
    assert ditto.secure(lambda x: x * 2.0**42)(X) == pytest.approx(X * 2.0**42, rel=1e-4)
