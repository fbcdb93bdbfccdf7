"""A simulated call whose results lost their digits says so, with the place where it happened."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError, RangeWarning

F = np.float32
X = np.array([0.13, -0.7, 1.3, 0.4], F)
STEPS = r"which is [\d.e-]+ steps of fxp64\.\d+"


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (lambda x: x * x, (X * F(1e-3),), "output 0 is off by .*: the output reaches .* steps"),
        (lambda x: jnp.prod(x), (X * F(0.02),), f"the output reaches .*, {STEPS}"),
        (lambda x: x * x * x * 1e6, (X * F(0.01),), f"multiply at .*py:.*, {STEPS}"),
        (lambda x: (x + 1.0, x[0] * 1e-6), (X,), "output 1 is off by .*, whose largest value is 1.3e-07"),
        (lambda x: 1 / x * 1e5, (X * F(3e5),), "an error of a kernel grows on its way"),
    ],
    ids=["square", "product", "cube", "second output", "reciprocal"],
)
def test_lost_digits_are_named(fn, args, message):
    with pytest.warns(RangeWarning, match=message):
        ditto.secure(fn)(*args)


def test_a_result_beyond_everything_in_plaintext_is_refused():
    with pytest.raises(RangeError, match=f"output 0 is off by .*: multiply at .*py:.*, {STEPS}"):
        ditto.secure(lambda x, y: x * y * 1e12)(np.tile(X, 20) * F(1e-4), np.tile(X, 20) * F(1e-4))


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (lambda x: x - x * 3.0 / 3.0, (X,)),
        (lambda x: jnp.mean(x - jnp.mean(x)), (X,)),
        (lambda x: jnp.sum(jax.nn.softmax(x)) - 1.0, (X,)),
        (lambda x: x * 0.0, (X,)),
    ],
    ids=["difference", "mean", "sum of probabilities", "zeros"],
)
def test_differences_that_floats_cannot_tell_from_zero_are_left_alone(fn, args):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        ditto.secure(fn)(*args)


def test_without_the_check_nothing_is_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RangeWarning)
        ditto.secure(lambda x: x * x, check=False)(X * F(1e-3))
