"""Everyday functions of jnp give right values on kernels, without a step on SPU."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ditto_spu as ditto
from ditto_spu.errors import RangeError
from ditto_spu.plan.check import check_plan
from ditto_spu.plan.codec import decode_plan, encode_plan
from ditto_spu.plan.resources import PlanLimits
from tests.on_spu import paired

rng = np.random.default_rng(0)
X, Y = (4 * rng.normal(size=(2, 6, 30))).astype(np.float32)
X[0, :4] = Y[0, :4] = [0, 1.5, -2, 100]  # ties
X[1, :6], Y[1, :6] = [0, 1, -1, 2**17, -(2**17), 0.5], [-1, 0, 1, -(2**17), 2**17, 0.5]
X[2] = np.round(X[2] * 16) / 16
N, M = rng.integers(-5, 5, (2, 6, 30)).astype(np.int32)
N[0, :4] = [2**31 - 1, -(2**31), 2**31 - 1, -(2**31)]
M[0, :4] = [-(2**31), 2**31 - 1, 2**31 - 1, -(2**31)]
P, Q = X > 0, Y > 0
ORDERS = [getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")]


def kinds(function: Any, *args: Any) -> list[str]:
    return [row.kind for row in function.lower(*args).cost_analysis().rows]


def check(fn: Callable[..., Any], *args: Any, spu: bool = False, **options: Any) -> None:
    function = ditto.secure(fn, **options)
    for mine, plain in zip(
        *map(jax.tree_util.tree_leaves, (function(*args), jax.jit(fn)(*args))), strict=True
    ):
        assert mine.shape == plain.shape and mine.dtype == plain.dtype
        if np.issubdtype(plain.dtype, np.floating):
            np.testing.assert_allclose(mine, plain, atol=0.01)
        else:
            np.testing.assert_array_equal(mine, plain)
    assert ("spu" in kinds(function, *args)) == spu
    plan = function.lower(*args).plan
    check_plan(plan, PlanLimits(1 << 20, 1 << 30, 10**12))
    assert decode_plan(encode_plan(plan)) == plan


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("args", [(X, Y), (N, M), (P, Q)], ids=["floats", "integers", "booleans"])
def test_comparisons_of_secret_and_public_values(order, args):
    compare = lambda x, y: order(x, y)  # noqa: E731
    for public in ((), ("x",), ("y",)):
        check(compare, *args, public=public)
    check(lambda x: (order(x, 0), order(1, x)), args[0])
    check(lambda x, y: order(x[0, 0], y), *args)


def test_comparisons_with_constants_beyond_every_format():
    check(lambda x: (x < jnp.inf, x > -jnp.inf, x == jnp.inf, x >= 1e30, x != -1e30), X)


@pytest.mark.parametrize("args", [(X, Y), (N, M), (Q, Q[::-1])], ids=["floats", "integers", "booleans"])
def test_choices(args):
    where = lambda p, x, y: jnp.where(p, x, y)  # noqa: E731
    for public in ((), ("x",), ("y",), ("x", "y")):
        check(where, P, *args, public=public)
    check(lambda p, x: jnp.where(p, x[0, 0], x), P, args[0])


def test_choices_between_constants():
    check(lambda x: jnp.where(x > 0, 1.0, -1.0), X)
    check(lambda p, x: jnp.where(p, x, 1e6) * 1e-4, P, np.clip(X, -50, 50))


@pytest.mark.parametrize(
    "fn",
    [
        jnp.abs,
        jnp.sign,
        jax.nn.relu6,
        jax.nn.hard_tanh,
        jax.nn.leaky_relu,
        jax.nn.soft_sign,
        lambda x: jnp.clip(x, -1, 1.5),
        lambda x: lax.clamp(-1.0, x, 1.5),
        lambda x: lax.clamp(-jnp.inf, x, 1.5),
        lambda x: lax.clamp(2.0, x, 1.5),
        lambda x: (x.min(1), x.max(0)),
        lambda x: jnp.abs(x[0, 0]),
        lambda x: (x > 0) & (x < 3) | ~(x < -1) ^ (x == 0),
    ],
)
def test_functions_of_one_value(fn):
    check(fn, np.clip(X, -200, 200))


@pytest.mark.parametrize("fn", [jnp.sign, jnp.abs, lambda n: jnp.clip(n, -1, 3), lambda n: jnp.minimum(n, 2)])
def test_functions_of_one_integer(fn):
    check(fn, N[1:])


@pytest.mark.parametrize("fn", [jnp.minimum, jnp.maximum])
def test_the_smaller_and_the_larger_of_two(fn):
    for args in ((X, Y), (N, M)):
        check(fn, *args)
        check(lambda x, y: fn(x, y), *args, public=("y",))


@pytest.mark.parametrize(
    "fn",
    [
        jnp.floor,
        jnp.ceil,
        jnp.round,
        jnp.trunc,
        lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
        lambda x: x - jnp.floor(x),
        lambda x: x.astype(jnp.int32),
        lambda x: jnp.round(x).astype(jnp.int32),
    ],
)
def test_rounding_also_of_ties_and_whole_numbers(fn):
    x = np.concatenate([np.arange(-25, 25), np.arange(-50, 50) / 2, np.clip(X.ravel(), -200, 200)])
    check(fn, x.astype(np.float32))


def test_booleans_and_integers_as_numbers():
    small = N[1:]
    check(lambda x: ((x > 0).astype(jnp.float32), (x > 0).astype(jnp.int32)), X)
    check(lambda n: (n.astype(jnp.float32), n.astype(jnp.float32) * 0.3, n * 0.25), small)
    check(lambda x: ((x > 0).mean(), jnp.mean(x > 0, axis=1), jnp.sign(x).mean(axis=0)), X)
    check(lambda x, y: (x > 0) * y, X, np.clip(Y, -9, 9))
    check(lambda n: n.astype(jnp.float32), N)


SMALL, OTHER = N[1:, :9], M[1:, :9]


@pytest.mark.parametrize(
    "fn",
    [
        lambda n, m: (n + m, n - m, -n, 3 * n, n * m, n << 2),
        lambda n, m: (n.sum(), n.sum(1), jnp.cumsum(n, 1), (n > m).sum(), n[:, :4].prod(1)),
        lambda n, m: (n @ m.T, n @ jnp.arange(9), jnp.ones((2, 5), jnp.int32) @ n),
        lambda n, m: (n // 3, n % 4, lax.rem(n, m)),
        lambda n, m: (lax.div(n[:2], m[:2]), n[:2] // m[:2]),
        lambda n, m: (jnp.any(n > m, 1), jnp.all(n > -9, 0), jnp.any(n > 99), jnp.count_nonzero(n, 1)),
        lambda n, m: (n.max(), m.min((0, 1)), n.max(1), (n > m).max(1)),
        lambda n, m: (jnp.argmax(n, 1), jnp.argmin(n), jnp.argmax(n > 1, 1)),
        lambda n, m: (lax.cummin(n, axis=1), lax.cummax(n, axis=0, reverse=True)),
    ],
)
def test_whole_numbers(fn):
    check(fn, SMALL, OTHER)


def test_sums_of_integers_wrap_when_they_are_joined():
    check(lambda n, m: (n + m, n * m), N, M)


def test_windows_and_products_of_reals():
    x = np.clip(X, -4, 4)[:, :8]
    check(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 3), (2, 2), "SAME"), x)
    check(lambda x: lax.reduce_window(x, jnp.inf, lax.min, (1, 7), (1, 2), "SAME"), x)
    check(lambda x: (lax.cummax(x, axis=1), jnp.cumprod(x * 0.5, 1), (x * 0.5).prod(1)), x)
    check(lambda x: (x.max(), x.min((0, 1)), jnp.argmax(x, 1), jnp.argmin(x, 0)), x)


def test_secret_places():
    x = np.clip(X, -9, 9)[:3, :5]
    check(lambda x, n: (x[0].at[n[0, 0]].set(9.0), x.at[n[0] % 3].add(1.0)), x, SMALL)
    check(lambda x, n: x.at[:, n[0, 1]].set(2.0), x, SMALL)
    check(lambda x, n: lax.dynamic_update_slice(x, 2 * x[:2, :3], (n[0, 0], n[0, 1])), x, SMALL)
    check(lambda x, n: x[0].at[n[1, :5] % 5].set(x[1]), x, SMALL)
    check(lambda n: n[0][n[1] % 9], SMALL)


def test_an_argument_keeps_its_fraction_bits_beside_a_whole_number():
    check(lambda x, n: x + n, np.clip(X, -9, 9)[1:], N[1:])


def test_functions_of_two_values():
    x, y = np.clip(X, -9, 9), np.clip(Y, -9, 9)
    check(
        lambda x, y: jnp.where(jnp.abs(x - y) < 1, 0.5 * (x - y) ** 2, jnp.abs(x - y) - 0.5), x, y
    )  # Huber's loss
    check(lambda x, y: lax.clamp(-jnp.abs(y), x, jnp.abs(y)), x, y)
    check(lambda x, y: jnp.sign(x) * y, x, y)


def test_logic_of_secret_and_public_booleans():
    fn = lambda p, q: (p & q, p | q, p ^ q, ~p, jnp.logical_and(q, p))  # noqa: E731
    check(fn, P, Q)
    check(lambda p, q: (p & q, p | q, p ^ q, q & p), P, Q, public=("q",))


def test_work_between_steps_on_spu_stays_right():
    x, y = np.clip(X, -9, 9)[3:], np.clip(Y, -9, 9)[3:]
    check(lambda x, y: jnp.where(paired(x) > y, jnp.abs(x), y), x, y, spu=True)
    check(lambda x: jnp.where(paired(x) > 0.5, x, paired(-x)), x, spu=True)
    check(lambda n, m: jnp.where(n ^ m > 0, n, m), N[1:], M[1:], spu=True)


def test_what_spu_computed_is_compared_there():
    function = ditto.secure(lambda x: jnp.where(paired(x) > 0.5, paired(x), paired(paired(x))))
    assert set(kinds(function, X)) <= {"public", "cast", "spu"}


def test_a_difference_that_would_wrap_is_refused():
    x = np.array([1500.0, -1500.0], np.float32)
    function = ditto.secure(lambda x, y: x < y, config={"default": "fxp32.20"})  # holds |x| < 2048
    with pytest.raises(RangeError, match="compare at"):
        function(x, -x)


@pytest.mark.parametrize("masked", [False, True])
def test_a_run_from_material_deals_nothing(masked):
    def fn(x, y, b):
        chosen = jnp.where((x < y) & (y < 2), jnp.abs(x), lax.clamp(-1.0, y, b))
        return jnp.minimum(chosen, 3.0) + jnp.where(x > b, 1.0, -1.0) * jnp.sign(y), x < b, ~(x == y)

    args = np.clip(X, -9, 9), np.clip(Y, -9, 9), np.float32(1.5)
    function = ditto.secure(fn, masked=masked, public=("b",))
    result = function.run(*args, material=function.precompute(*args))
    for mine, plain in zip(result.outputs, fn(*args), strict=True):
        np.testing.assert_allclose(mine, plain, atol=0.01)
    computed = function.lower(*args).cost_analysis()
    assert result.report.bytes_sent_per_party == computed.bytes_sent_per_party


def test_checked_mode_has_nothing_to_say():
    function = ditto.secure(lambda x, y: jnp.where(x < y, jnp.abs(x), jnp.minimum(y, 1.0)), checked=True)
    args = np.clip(X, -9, 9), np.clip(Y, -9, 9)
    np.testing.assert_allclose(
        function(*args), np.where(args[0] < args[1], np.abs(args[0]), np.minimum(args[1], 1)), atol=0.01
    )
