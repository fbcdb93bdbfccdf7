"""Elementary functions of secret values are right in every octave of their arguments, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import enable_x64

from ditto_spu import secure
from ditto_spu.errors import DittoError, RangeError

# How far a result may be off: a part of itself, and an absolute error.
RELATIVE, ABSOLUTE = 2.0**-12, 2.0**-14
FORMATS = {"auto": 1.0, "fxp32.12": 16.0}  # the default, and how much coarser its results may be
rng = np.random.default_rng(0)


def octaves(low, high, signs=(1, -1), count=2):
    """Return numbers of either sign from every octave between two powers of two, and 0."""
    sizes = np.concatenate([2.0**octave * (1 + rng.random(count)) for octave in range(low, high)])
    both = np.concatenate([sign * sizes for sign in signs])
    return np.asarray(np.concatenate([both, np.zeros(len(signs) - 1)]), np.float32)


ANY = octaves(-10, 17)
POSITIVE = octaves(-8, 16, (1,))
SMALL = np.linspace(-10, 10, 81, dtype=np.float32)
ENDS = 1 - 2.0 ** -np.arange(2, 12)
UNIT = np.concatenate([np.linspace(-1, 1, 41), ENDS, -ENDS]).astype(np.float32)
INSIDE = UNIT[np.abs(UNIT) < 1]
CASES = {
    "sin": (jnp.sin, (ANY,)),
    "cos": (jnp.cos, (ANY,)),
    "tan": (jnp.tan, (np.linspace(-1.4, 4.5, 61, dtype=np.float32),)),
    "atan": (jnp.arctan, (ANY,)),
    "atan2": (jnp.arctan2, (octaves(-4, 12), rng.permutation(octaves(-4, 12)))),
    "atan2 on the axes": (jnp.arctan2, (np.float32([0, 0, 0, 2, -2]), np.float32([0, 3, -3, 0, 0]))),
    "asin": (jnp.arcsin, (UNIT,)),
    "acos": (jnp.arccos, (UNIT,)),
    "acos of a multiple": (lambda x: jnp.arccos(0.5 * x), (np.linspace(-1.9, 1.9, 39, dtype=np.float32),)),
    "sinh": (jnp.sinh, (SMALL,)),
    "cosh": (jnp.cosh, (SMALL,)),
    "asinh": (jnp.arcsinh, (ANY,)),
    "acosh": (jnp.arccosh, (1 + octaves(-6, 16, (1,)),)),
    "atanh": (jnp.arctanh, (INSIDE,)),
    "cbrt": (jnp.cbrt, (ANY,)),
    "erf": (lax.erf, (SMALL,)),
    "erfc": (lax.erfc, (SMALL,)),
    "sinc": (jnp.sinc, (SMALL,)),
    "square root as a power": (lambda x: x**0.5, (POSITIVE,)),
    "x to 2.5": (lambda x: x**2.5, (octaves(-4, 5, (1,)),)),
    "x to -0.3": (lambda x: x**-0.3, (POSITIVE,)),
    "x to 1.7": (lambda x: x**1.7, (np.append(octaves(-4, 6, (1,)), np.float32(0)),)),
    "2 to x": (lambda x: 2.0**x, (SMALL,)),
    "x to y": (lambda x, y: x**y, (POSITIVE, rng.uniform(-0.9, 0.9, POSITIVE.size).astype(np.float32))),
    "whole powers of any sign": (
        lambda x, y: x**y,
        (np.float32([-2, -1.5, -3, 0, 0, 2, -2, 1.5]), np.float32([3, 2, 4, 0, 2, -2, -1, 0])),
    ),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_every_octave_is_right(name, form):
    fn, args = CASES[name]
    if form != "auto":  # a coarser grid, on which logarithms of small numbers are refused
        kept = np.all([(each == 0) | (np.abs(each) > 2.0**-5) for each in args], axis=0)
        args = tuple(np.asarray(np.rint(each[kept] * 2**12) / 2**12, np.float32) for each in args)
    config = form if form == "auto" else {"default": form}
    value = np.asarray(secure(fn, config=config, seed=1)(*args), np.float64)
    with enable_x64():
        expected = np.asarray(fn(*(each.astype(np.float64) for each in args)))
    error = np.abs(value - expected)
    allowed = FORMATS[form] * (ABSOLUTE + RELATIVE * np.abs(expected))
    if name == "tan":  # the cosine errs absolutely
        allowed = allowed + 2.0**-16 * FORMATS[form] * expected**2
    assert np.all(error <= allowed), (args, value[error > allowed], expected[error > allowed])


MULTIPLES = np.arange(-40, 41, dtype=np.float32)


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (lambda x: (x % 1.5, x % -1.5, jnp.fmod(x, 2.25), x // 1.5), (0.75 * MULTIPLES,)),
        (lambda x: x % 7, (MULTIPLES,)),
        (lambda x, y: (x % y, jnp.fmod(x, y), x // y), (0.75 * MULTIPLES, np.float32(-2.25))),
        (lambda x: x % 1.0, (octaves(-8, 17),)),
        (lambda x: x % np.float32(2 * np.pi), (octaves(-8, 12),)),
        (jnp.fmod, (octaves(2, 12), rng.permutation(octaves(2, 12)) + np.float32(0.5))),
        (lambda x: jnp.isfinite(x) & ~jnp.isnan(x), (ANY,)),
        (
            lambda x: (jnp.signbit(x), jnp.copysign(2.0, x), jnp.copysign(x, -1.0)),
            (octaves(-8, 8, (1, -1))[:-1],),
        ),
    ],
    ids=["multiples", "whole numbers", "secret divisor", "of one", "of a turn", "any", "finite", "sign bits"],
)
def test_remainders_leave_nothing_of_multiples(fn, args):
    value = secure(fn, seed=1)(*args)
    with enable_x64():
        exact = [
            np.asarray(each, np.float64) if np.asarray(each).dtype == np.float32 else each for each in args
        ]
        expected = fn(*exact)
    for mine, right in zip(*map(jax.tree_util.tree_leaves, (value, expected)), strict=True):
        np.testing.assert_allclose(np.float64(mine), np.float64(right), atol=2.0**-11)


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (jnp.arcsin, (2.0,)),
        (jnp.arccosh, (0.5,)),
        (jnp.arctanh, (1.5,)),
        (jnp.arctanh, (1.0,)),
        (lambda x: x**0.5, (-1.0,)),
        (lambda x: x**0.3, (-1.0,)),
        (lambda x: x**-0.3, (0.0,)),
        (lambda x, y: x**y, (0.0, -1.0)),
        (lambda x, y: x**y, (-1.0, 0.5)),
        (jnp.fmod, (1.0, 0.0)),
        (lambda x: jnp.sinh(x), (40.0,)),
        (lax.lgamma, (2.0,)),
        (lambda x: jnp.nextafter(x, x), (2.0,)),
    ],
)
def test_what_has_no_result_is_refused(fn, args):
    with pytest.raises(DittoError):
        secure(fn)(*map(np.float32, args))


def test_an_argument_beyond_the_format_is_refused():
    with pytest.raises(RangeError, match="sine"):
        secure(lambda x: jnp.sin(x), config={"default": "fxp32.12"})(np.float32(3e5))
