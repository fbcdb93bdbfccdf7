"""Functions of secret values of any size are right, or refused: end to end, in two configurations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ditto_spu import secure
from ditto_spu.errors import RangeError

CONFIGS = {"narrow": {"default": "fxp32.11"}, "auto": "auto"}
ULP = 2.0**-11  # of results in `narrow`
EIGHT = np.arange(1, 9, dtype=np.float32)


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-12)


def rms_norm(x):
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


CASES = {
    "1/-1": (lambda x: 1 / x, -1.0),
    "1/0.1": (lambda x: 1 / x, 0.1),
    "1/0.01": (lambda x: 1 / x, 0.01),
    "1/5000": (lambda x: 1 / x, 5000.0),
    "a public vector by a secret number": (lambda x: jnp.array([1.0, 2.0, 3.0]) / x, -0.5),
    "a secret vector by its sum": (lambda x: x / x.sum(), EIGHT),
    "rsqrt of 1000": (lax.rsqrt, 1000.0),
    "rsqrt of 0.0001": (lax.rsqrt, 1e-4),
    "sqrt of 140000": (jnp.sqrt, 1.4e5),
    "sqrt of little": (jnp.sqrt, [0.0, 1e-4, 0.01]),
    "layer norm of small rows": (layer_norm, (EIGHT - 1) * 1e-3),
    "layer norm of large rows": (layer_norm, (EIGHT - 1) * 1e3),
    "layer norm of rows of all sizes": (layer_norm, EIGHT * np.logspace(-3, 4, 6)[:, None]),
    "rms norm of rows of all sizes": (rms_norm, EIGHT * np.logspace(-3, 4, 6)[:, None]),
    "log of all sizes": (jnp.log, np.logspace(-2, 5, 12)),
    "log near one": (jnp.log, 1 + np.linspace(-1e-2, 1e-2, 9)),
    "log1p": (jnp.log1p, [-0.9, -0.01, -1e-4, 0.0, 1e-4, 0.01, 1.0, 1e4]),
    "expm1": (jnp.expm1, [-40, -3, -0.1, -1e-3, -1e-5, 0, 1e-5, 1e-3, 0.1, 3, 12]),
    "exp of 9": (jnp.exp, 9.0),
    "exp of everything": (jnp.exp, np.linspace(-40, 13, 12)),
    "a vector by its length": (lambda x: x / jnp.sqrt((x * x).sum()), 30 * EIGHT),
}


SMALL = pytest.mark.filterwarnings("ignore::ditto_spu.errors.RangeWarning")  # results of a few steps


@SMALL
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("config", CONFIGS)
def test_values_are_right(config, name):
    fn, value = CASES[name]
    value = np.asarray(value, np.float32)
    expected = np.asarray(jax.jit(fn)(value))
    assert np.all(
        np.abs(np.asarray(secure(fn, config=CONFIGS[config])(value)) - expected)
        <= 2.0**-10 * np.abs(expected) + 2 * ULP
    )


@SMALL
@pytest.mark.parametrize(("x", "y"), [(4000.0, 2000.0), (3.0, -0.01), (1e5, 7.0), (-5.0, 1e5)])
def test_secret_quotients_are_right(x, y):
    value = np.asarray(secure(lambda x, y: x / y)(np.float32(x), np.float32(y)))
    assert abs(value - x / y) <= 2.0**-10 * abs(x / y) + 2 * ULP


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (lambda x: 1 / x, 1e-7),
        (lambda x: 1 / x, 1e8),
        (lambda x: 1 / x, 0.0),
        (lax.rsqrt, 1e-9),
        (lax.rsqrt, -1.0),
        (jnp.sqrt, -1.0),
        (jnp.log, 0.0),
        (jnp.log, -1.0),
        (jnp.log1p, -1.5),
        (jnp.exp, 18.0),
    ],
)
def test_what_no_format_holds_is_refused(fn, value):
    with pytest.raises(RangeError):
        secure(fn, config=CONFIGS["narrow"])(np.float32(value))


def test_a_rule_chooses_the_window_and_its_range():
    windowed = secure(
        lambda x: 1 / (x + x), config={"default": "fxp32.12", "rule": [{"op": "divide", "approx": "whole"}]}
    )
    assert "whole range" in str(windowed.lower(np.float32(1)).plan)
    rules = [{"op": ["divide", "rsqrt"], "approx": "window"}]
    narrow = secure(lambda x, y: lax.rsqrt(x / y), config={"default": "fxp32.12", "rule": rules})
    plan = str(narrow.lower(np.float32(1), np.float32(1)).plan)
    assert "whole range" not in plan and "fxp64.22" not in plan
    with pytest.raises(RangeError, match="divisor"):
        narrow(np.float32(1e4), np.float32(2000))


def test_a_quotient_beyond_the_window_is_refused():
    config = {"default": "fxp64.18", "rule": [{"op": "divide", "approx": "window"}]}
    with pytest.raises(RangeError, match="quotient reached"):
        secure(lambda x, y: x / y, config=config)(np.float32(1e5), np.float32(20))


def test_attention_in_float64_masks_with_what_no_format_holds():
    x = np.random.default_rng(0).normal(size=(1, 4, 2, 8))

    def attention(x):
        return jax.nn.dot_product_attention(x, x, x, is_causal=True)

    with jax.experimental.enable_x64():
        assert np.allclose(secure(attention)(x), attention(x), atol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_zero_stays_exactly_zero(config):
    """Otherwise programs that compare with 0, or order several zeros, would be decided by rounding."""

    def program(x):
        small = jnp.exp(x * 100 - 800)
        return jnp.sqrt(x), jnp.log1p(x), jnp.argsort(jax.nn.softplus(x - 800)), small

    x = np.array([0, 0, 3, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0], np.float32)
    root, logarithm, places, small = secure(program, config=CONFIGS[config])(x)
    assert np.array_equal(root == 0, x == 0)
    assert np.array_equal(logarithm == 0, x == 0)
    assert np.array_equal(places, np.arange(x.size))
    assert not small.any()
