"""A simulated call whose values leave a range that its plan relies on is an error, never a wrong result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError

F = np.float32
X = np.array([3.0, 2.0, 120.0], F)
W = np.array([10.0, 15.0, 2.5], F)


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (lambda x: x + x, (F(6e5),), r"add at .*: result reached 1.2e\+06"),
        (lambda x: jnp.sum(x * x), (np.full(200, 1e2, F),), "add at .*: result reached"),
        (lambda x, w: x @ w + 50, (X, W), "matmul at .*: (product|result) reached"),
        (lambda x: jnp.sin(x), (F(6e5),), "sine at .*: operand reached"),
        (lambda x: jax.nn.softmax(x), (np.array([500.0, 0.0, -500.0], F),), "softmax at .*: operand reached"),
        (lambda x, w: jax.nn.gelu(x * w), (X, -X), "(gelu|multiply) at .*: (operand|result) reached"),
    ],
    ids=["sum", "sum of squares", "product", "sine", "scores", "gelu"],
)
def test_a_value_that_leaves_a_range_is_refused_with_the_line(fn, args, message):
    with pytest.raises(RangeError, match=message) as refused:
        ditto.secure(fn, config="ditto")(*args)
    assert f"{__name__.rpartition('.')[2]}.py:" in str(refused.value)


def test_values_within_their_ranges_are_right():
    secure = ditto.secure(lambda x, w: jnp.tanh(x @ w * 0.01))
    np.testing.assert_allclose(secure(X / 60, W), np.tanh(X / 60 @ W * 0.01), atol=0.01)


def test_every_call_is_checked_also_after_arrays_changed_in_place():
    secure, x = ditto.secure(lambda x: x + x, config="ditto"), np.ones(3, F)
    assert np.allclose(secure(x), 2)
    x[1] = 6e5
    with pytest.raises(RangeError, match="result reached"):
        secure(x)


def test_held_arguments_are_checked_too():
    secure = ditto.secure(lambda w, x: w * x, config="ditto").hold(w=np.array([3e5, 1.0], F))
    with pytest.raises(RangeError, match="multiply at"):
        secure(x=np.array([4.0, 1.0], F))


def test_without_the_check_the_caller_has_to_know():
    assert ditto.secure(lambda x: x + x, config="ditto", check=False)(F(6e5)) < 0


def test_an_input_beyond_its_format_is_named_first():
    with pytest.raises(RangeError, match="secret argument 'x': magnitude 1e\\+09 does not fit"):
        ditto.secure(lambda x: x * 0.5, config="ditto")(F(1e9))


def test_handles_of_kept_outputs_have_no_values_to_check():
    secure = ditto.secure(lambda x: (x + 1, x))
    kept = secure.run(F(2.0), keep=(0,)).outputs[0]
    assert np.allclose(ditto.secure(lambda x: x * 2)(kept), 6, atol=0.01)


def test_a_mean_over_many_values_keeps_the_digits_of_one_over_n():
    x = np.full((2, 20_000), 100.0, F) + np.random.default_rng(3).normal(size=(2, 20_000)).astype(F)
    np.testing.assert_allclose(ditto.secure(lambda x: jnp.mean(x, axis=1))(x), x.mean(axis=1), rtol=1e-3)


def test_a_check_lives_no_longer_than_its_compilation():
    secure = ditto.secure(lambda x: x + x, config="ditto")
    lowered = secure.lower(F(1.0))
    secure._check_ranges(lowered, [F(1.0)], [F(1.0)])
    assert list(secure._checks) == [id(lowered)]
    other = ditto.secure(lambda x: x - x, config="ditto")
    other._check_ranges(lowered, [F(1.0)], [F(1.0)])  # a compilation that the function does not keep
    assert not other._checks
