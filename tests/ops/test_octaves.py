"""Reciprocal, roots, exponential and logarithms keep their relative error in every octave of a format."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ditto_spu import secure

ULP = 2.0**-12
RELATIVE = 2.0**-10
STEPS = 1.5  # the last rounding errs by less than 1 ulp, and all before it by less than half of one
CONFIG = {"default": "fxp32.12"}
FUNCTIONS = {
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x),
    "negative reciprocal": (lambda x: 1 / -x, lambda x: -1 / x),
    "sqrt": (jnp.sqrt, np.sqrt),
    "rsqrt": (lax.rsqrt, lambda x: x**-0.5),
    "log": (jnp.log, np.log),
    "log1p": (jnp.log1p, np.log1p),
    "exp": (lambda x: jnp.exp(x), np.exp),
    "exp of negative values": (lambda x: jnp.exp(-x), lambda x: np.exp(-x)),
    "expm1": (jnp.expm1, np.expm1),
}


def sampled(count):
    """Values on the grid of fxp32.12, so many in every octave from the least admitted one to 2^18."""
    rng = np.random.default_rng(5)
    octaves = [2.0**low * (1 + rng.random(count)) for low in range(-6, 18)]
    return np.unique(np.rint(np.concatenate(octaves) / ULP)) * ULP


def misses(name, count):
    """Return the arguments whose results miss both bars."""
    fn, exact = FUNCTIONS[name]
    x = sampled(count)
    x = x[x < 2.0**18 - 1]
    if name in ("exp", "expm1"):
        x = x[x < 12.0]
    value = np.asarray(secure(fn, config=CONFIG)(x.astype(np.float32)), np.float64)
    expected = exact(x)
    wrong = np.abs(value - expected) > np.maximum(RELATIVE * np.abs(expected), STEPS * ULP)
    return list(zip(x[wrong], value[wrong], expected[wrong], strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_octave_is_within_the_bar(name):
    assert not misses(name, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_octave_is_within_the_bar_on_many_values(name):
    assert not misses(name, 20000)
