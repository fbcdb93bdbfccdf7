"""Test verify: it changes nothing, and it refuses ranges and constants that their formats cannot hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu.errors import RangeError
from ditto_spu.passes.formats.verify import verify

X = np.ones((2, 2), np.float32)


def checked(program):
    before = program.lines()
    verify(program.module, program.public)
    assert program.lines() == before


def config(*rows, default="fxp32.12"):
    return {"default": default, "rule": list(rows)}


@pytest.mark.parametrize(
    ("fn", "rows"),
    [
        (lambda x, w: x, []),
        (lambda x, w: jnp.tanh(x @ w) + 1.0, []),
        (lambda x, w: x @ w, [{"op": "matmul", "range": 60.0}]),
        (lambda x, w: x @ w, [{"op": "matmul", "range": 200.0, "operand": "fxp32.10"}]),
        (lambda x, w: jnp.maximum(x, -jnp.inf), []),
    ],
)
def test_a_sound_program_passes_unchanged(fn, rows, compile_to):
    checked(compile_to(fn, X, X, config=config(*rows)))


def test_a_range_without_a_spare_bit_is_refused(compile_to):
    rule = {"op": "tanh", "format": "fxp16.9", "range": 40.0}
    with pytest.raises(RangeError, match=r"range 40 leaves fxp16\.9 no spare bit .* at most 8 fraction bits"):
        checked(compile_to(lambda x: jnp.tanh(x), X, config=config(rule)))


@pytest.mark.parametrize(("bound", "fine"), [(28.0, True), (29.0, False)])
def test_what_only_a_windowed_function_reads_needs_room_for_the_window_alone(bound, fine, compile_to):
    """fxp16.10 holds magnitudes below 32, and GeLU's window ends at 3.25."""
    rows = (
        {"op": ["matmul", "add"], "range": bound, "format": "fxp16.10"},
        {"op": "gelu", "operand": "fxp16.10", "approx": "fourier"},
    )
    program = compile_to(
        lambda x, w, b: jax.nn.gelu(x @ w + b, approximate=False), X, X, X[0], config=config(*rows)
    )
    if fine:
        checked(program)
    else:
        with pytest.raises(RangeError, match=r"protocols need \|x\| < 28\.75"):
            checked(program)


def test_a_range_beyond_the_product_before_truncation_is_refused(compile_to):
    with pytest.raises(RangeError, match=r"before truncation the product has 24 fraction bits .* is 64"):
        checked(compile_to(lambda x, w: x @ w, X, X, config=config({"op": "matmul", "range": 64.0})))


@pytest.mark.parametrize("value", [1e6, -1e6, jnp.inf, jnp.nan])
def test_a_constant_outside_its_format_is_refused_with_its_place(value, compile_to):
    def fn(x):
        with jax.named_scope("attention"):
            return x + value

    with pytest.raises(RangeError, match=r"add at 'attention' \(.*test_verify.py:\d+\): (a )?constant"):
        checked(compile_to(fn, X))


def test_public_constants_may_be_large(compile_to):
    checked(compile_to(lambda x, b: x + jnp.minimum(b + 1e8, 1.0), X, X, public=("b",)))
