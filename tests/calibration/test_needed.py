"""Elements that no output takes do not refuse a program, and those that one takes do."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError

X = np.array([-2.0, 0.0, 0.5, 3.0], np.float32)
PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "sinc": jnp.sinc,
    "sin(x) / x": lambda x: jnp.where(x == 0, 1.0, jnp.sin(x) / x),
    "1 / x": lambda x: jnp.where(x != 0, 1 / x, 7.0),
    "log": lambda x: jnp.where(x > 0, jnp.log(x), 0.0),
    "sqrt, scaled": lambda x: jnp.where(x > 0, 2 * jnp.sqrt(x) + 1, -x),
    "x log x": lambda x: jnp.where(x > 0, x * jnp.log(x), 0.0).sum(),
    "nested": lambda x: jnp.where(x < 0, 1.0, jnp.where(x > 0, 1 / x, 2.0)),
    "both branches": lambda x: jnp.where(x > 0, jnp.log(x), jnp.where(x < 0, jnp.log(-x), 0.0)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_elements_that_are_not_taken(name: str) -> None:
    fn = PROGRAMS[name]
    with np.errstate(all="ignore"):
        right = np.asarray(fn(jnp.asarray(X)))
    np.testing.assert_allclose(ditto.secure(fn)(X), right, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.where(x >= 0, jnp.log(x), 0.0),
        lambda x: jnp.where(x >= 0, 1 / x, 0.0),
        lambda x: jnp.where(x > 0, 0.0, 1 / x),
        lambda x: (jnp.where(x > 0, 1 / x, 0.0), 1 / x),
    ],
)
def test_elements_that_are_taken(fn: Callable[[Any], Any]) -> None:
    with pytest.raises(RangeError):
        ditto.secure(fn)(X)


def test_calibration_leaves_them_out() -> None:
    fn = ditto.secure(lambda x: jnp.where(x != 0, 1 / x, 7.0))
    seen = fn.calibrate([(X,)])
    assert all(np.isfinite(each.largest) for each in seen.values.values())
