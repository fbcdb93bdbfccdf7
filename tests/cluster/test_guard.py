"""Parties on hosts find products that leave their rings, and the client learns one bit about a request."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import secure
from ditto_spu.errors import RangeError

F = np.float32
RNG = np.random.default_rng(5)
X, W = RNG.normal(size=(6, 24)).astype(F), RNG.normal(size=(24, 10)).astype(F) / 5
BIG = 1e3 * np.outer(X[2] / (X[2] @ X[2]), np.eye(10)[4]).astype(F)  # one element of X @ BIG is 1000


def layer(w, x):
    return jax.nn.gelu(x @ w)


def expected(w, x=X):
    return np.asarray(layer(w, x))


def made(**options):
    return secure(layer, config={"default": "fxp32.12"}, **options)


def test_it_is_on_by_default_and_the_session_goes_on(alice):
    alice.run(made(), W, X)
    session = alice._parties.session
    for _ in range(2):
        with pytest.raises(RangeError, match="'layer': a value of this request left the range"):
            alice.run(made(), BIG, X)
    assert alice.run(made(), W, X).outputs == pytest.approx(expected(W), abs=0.05)
    assert alice._parties.session is session


def test_without_it_the_result_is_wrong(alice):
    assert np.abs(alice.run(made(guard=False), BIG, X).outputs - expected(BIG)).max() > 1


def test_one_call_of_a_batch_is_enough(alice):
    function = made()
    batch = alice.run_many(function, [(W, X), (W, -X)])
    for outputs, x in zip(batch.outputs, (X, -X), strict=True):
        assert outputs == pytest.approx(expected(W, x), abs=0.05)
    with pytest.raises(RangeError, match="left the range"):
        alice.run_many(function, [(W, X), (BIG, X)])


@pytest.mark.parametrize("masked", [False, True])
def test_held_weights_and_material(alice, masked):
    for weights, fits in ((W, True), (BIG, False)):
        function = made(masked=masked).hold(w=weights)
        for _ in range(2):
            material = alice.precompute(function, x=X)
            if fits:
                result = alice.run(function, x=X, material=material)
                assert result.outputs == pytest.approx(expected(weights), abs=0.05)
                continue
            with pytest.raises(RangeError, match="left the range"):
                alice.run(function, x=X, material=material)


def test_a_maximum_of_nothing_is_refused(alice):
    largest = secure(lambda x: 2 * jnp.max(jnp.where(x > 9, x, -jnp.inf)), guard=False)
    assert alice.run(largest, 10 * np.abs(X)).outputs == pytest.approx(20 * np.abs(X).max(), rel=1e-4)
    with pytest.raises(RangeError, match="output 0 of the program holds NaN or infinity"):
        alice.run(largest, X)


def test_owners_check_what_they_share(alice):
    with pytest.raises(RangeError, match=r"matmul at .*: operand reached"):
        alice.run(made(), W, X * F(2e5))
