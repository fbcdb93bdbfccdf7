"""Owners hold their arrays against the plan's ranges before they share them with parties elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.cluster.client.uploads import split
from ditto_spu.errors import RangeError

F = np.float32
ONES = np.ones((4, 4), F)


def shared(fn, *args, config="ditto"):
    call = ditto.secure(fn, config=config).call(*args)
    return split(call.lowered.plan, call, range(len(args)), np.random.default_rng(0).bytes)


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (lambda x, w: x @ w, (ONES, 1e5 * ONES), "matmul at .*: second reached .*1e.05"),
        (lambda x, w: x @ w, (ONES * F(7e5), ONES), "matmul at .*: operand reached"),
        (lambda x: jnp.exp(x), (ONES * F(6e5),), "exp at .*: exponent reached"),
        (lambda x: jax.nn.softmax(x), (ONES * F(300),), "softmax at .*: operand reached"),
        (lambda x: x * 2, (ONES * F(2e6),), "reached|does not fit"),
    ],
    ids=["weights", "input", "exponential", "scores", "too large"],
)
def test_an_array_beyond_the_range_of_its_first_reader_is_refused(fn, args, message):
    with pytest.raises(RangeError, match=message):
        shared(fn, *args)


def test_arrays_within_their_ranges_are_shared():
    assert len(shared(lambda x, w: jax.nn.gelu(x @ w), ONES, ONES)) == 2
    assert len(shared(lambda x: x + x, ONES * F(5e5))) == 1  # its sum overflows, the array does not
