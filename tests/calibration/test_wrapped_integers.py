"""An integer that wraps before an operation reads it as a number is refused; others wrap as in JAX."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ditto_spu import secure
from ditto_spu.errors import RangeError

N = np.array([2**30, -(2**31), 5, 2**31 - 1], np.int32)
U = np.array([2**31, 7, 2**32 - 1], np.uint32)
S = np.array([100, -100, 127], np.int8)
M = np.array([[2**30, 1], [2**30, 2]], np.int32)


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (lambda n: (n * 3) >> 1, N),
        (lambda n: n * 3 > 0, N),
        (lambda n: (n + n).reshape(2, 2)[0] // 2, N),
        (lambda n: (n - 7).astype(jnp.float32), N),
        (lambda n: jnp.maximum(-n, 0), N),
        (lambda n: n.sum() > 0, M),
        (lambda n: jnp.sort(jnp.cumsum(n)), N),
        (lambda n: jnp.abs(n @ n), M),
        (lambda n: (n * 3) > 5, U),
        (lambda n: n.astype(jnp.uint32) >> 1, N),
        (lambda n: (n + n) > 0, S),
    ],
)
def test_a_number_that_wrapped_is_not_read(fn, value):
    with pytest.raises(RangeError, match=r"\(.*test_wrapped_integers.py:\d+\): an integer reached"):
        secure(fn)(value)


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (lambda n: n * 3 - n, N),
        (lambda n: ((n * 3) & 7, lax.population_count(n * 5), n.sum()), N),
        (lambda n: (n @ n, n << 3), M),
        (lambda n: (n + n, n.astype(jnp.int32) * 2 > 0), S),
        (lambda n: (~n >> 1, ~n > 5, ~n), U),
        (lambda n: (~n >> 1, lax.shift_right_logical(n, 3), lax.shift_right_logical(n, 40)), N),
        (lambda n: (lax.clz(n), lax.clz(n * 0), lax.clz(~n)), N),
        (lambda n: lax.clz(n), U),
        (lambda n: jnp.where(n > 99, n - 28, n + 28) // 2, np.array([127, 100, -100, 99], np.int8)),
        (lambda n: (lax.clz(n), n & 6, n | 1, n ^ 5, n >> 1), S),
    ],
)
def test_what_reads_the_lower_bits_alone_is_right(fn, value):
    expected = fn(jnp.asarray(value))
    got = secure(fn, seed=1)(value)
    for mine, right in zip(
        *((each if isinstance(each, tuple) else (each,)) for each in (got, expected)), strict=True
    ):
        assert np.array_equal(np.asarray(mine), np.asarray(right))


def test_powers_of_whole_numbers_are_exact():
    base, exponent = np.array([3, -2, 7, 0, 1, -5], np.int32), np.array([4, 5, 3, 2, 9, 0], np.int32)
    assert np.array_equal(secure(lambda a, b: a**b)(base, exponent), base**exponent)
    assert np.array_equal(secure(lambda b: 2**b)(exponent), 2**exponent)


def test_integers_inside_of_loops_have_no_check():
    """The loop stays on SPU, whose integers have 64 bits."""

    def turned(n, turns):
        return lax.while_loop(lambda s: s[0] < turns, lambda s: (s[0] + 1, s[1] + 2), (0, n))[1]

    assert np.array_equal(secure(turned, public=("turns",))(N[2:3], np.int32(3)), N[2:3] + 6)
