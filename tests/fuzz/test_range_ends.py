"""At the ends of every stated range functions are right, in formats drawn at random: nothing wraps unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import enable_x64

import ditto_spu as ditto
from ditto_spu.errors import DittoError

MOST_BITS = {16: 13, 32: 24, 64: 36}  # of the fraction
COARSE = 64  # a divisor or an argument of a root has at least so many steps


class Function(NamedTuple):
    run: Callable[[Any], Any]
    fit: float = 0.0  # the error that the bound of its kernel has beside roundings
    positive: bool = False


FUNCTIONS = {
    "gelu": Function(jax.nn.gelu, 6e-3),
    "silu": Function(jax.nn.silu, 6e-3),
    "tanh": Function(jnp.tanh, 6e-3),
    "sigmoid": Function(jax.nn.sigmoid, 6e-3),
    "softplus": Function(jax.nn.softplus, 6e-3),
    "softmax": Function(jax.nn.softmax, 1e-2),
    "relu": Function(jax.nn.relu),
    "abs": Function(jnp.abs),
    "sign": Function(jnp.sign),
    "floor": Function(jnp.floor),
    "round": Function(jnp.round),
    "clip": Function(lambda x: jnp.clip(x, -1, 2)),
    "square": Function(lambda x: x * x),
    "third": Function(lambda x: x * 0.3),
    "double": Function(lambda x: x + x),
    "sum": Function(lambda x: jnp.sum(x, keepdims=True)),
    "largest": Function(lambda x: jnp.max(x, keepdims=True)),
    "sorted": Function(jnp.sort),
    "greater": Function(lambda x: jnp.where(x > 0.5, x, 1.0)),
    "exp": Function(jnp.exp),
    "reciprocal": Function(lambda x: 1 / x, positive=True),
    "sqrt": Function(jnp.sqrt, positive=True),
    "log": Function(jnp.log, positive=True),
    "sine": Function(jnp.sin, 1e-4),
    "arc tangent": Function(jnp.arctan, 1e-3),
    "erf": Function(lax.erf, 1e-3),
}


def drawn(random: np.random.Generator, ring: int, bits: int, positive: bool) -> np.ndarray:
    """Return values up to an end of a format, and some of ordinary size, that float32 holds exactly."""
    ulp, top = 2.0**-bits, 2.0 ** (ring - 1 - bits)
    end = top * random.choice([1, 0.5, 0.25, 0.1]) * random.choice([0.999, 0.9, 0.6, 0.49])
    ordinary = (random.random(6) - 0.5) * min(end, 20)
    x = np.concatenate([np.array([end, -end, end / 2, -end / 3, 0.7, -0.7]), ordinary])
    if positive:
        x = np.maximum(np.abs(x), COARSE * ulp)
    return (np.trunc(x.astype(np.float32).astype(np.float64) / ulp) * ulp).astype(np.float32)


def judge(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(count):
        name = random.choice(list(FUNCTIONS))
        function, ring = FUNCTIONS[name], int(random.choice([16, 32, 64]))
        bits = int(random.integers(2, MOST_BITS[ring]))
        x = drawn(random, ring, bits, function.positive)
        try:
            got = np.asarray(
                ditto.secure(function.run, config={"default": f"fxp{ring}.{bits}"})(x), np.float64
            )
        except DittoError:
            continue  # it is refused, which is right beyond a range
        with enable_x64():
            exact = np.asarray(function.run(x.astype(np.float64)))
        steps = 2.0**-bits * (6 * x.size if name in ("sum", "softmax") else 6)
        wrong = np.abs(got - exact) > steps + 2.0**-8 * np.abs(exact) + function.fit
        assert not wrong.any(), f"{name} in fxp{ring}.{bits} of {x.tolist()}: {got.tolist()}"


@pytest.mark.filterwarnings("ignore::ditto_spu.errors.RangeWarning")
def test_some_calls_at_the_ends_of_ranges() -> None:
    judge(seed=1, count=40)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ditto_spu.errors.RangeWarning")
def test_many_calls_at_the_ends_of_ranges() -> None:
    judge(seed=2, count=1500)
