"""Norms bound products of normalised rows and of known columns, and never by less than they reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.ops import intervals
from ditto_spu.passes.pipeline import advance, begin

RNG = np.random.default_rng(5)
N = 48
W = RNG.normal(size=(N, 20)).astype(np.float32)
GAMMA, BETA = (RNG.normal(size=N).astype(np.float32) for _ in range(2))
X = RNG.normal(size=(4, N)).astype(np.float32)
TOTAL, LENGTH, MOST = np.abs(W).sum(0).max(), np.linalg.norm(W, axis=0).max(), np.abs(W).max()
NORMALISED = np.sqrt(N) * np.abs(GAMMA).max() + np.linalg.norm(BETA)


def norm(x):
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)


def rms(x):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def one_hot(x):
    return jax.nn.one_hot(jnp.argmax(x, -1), N)


def heads(x):
    return jax.nn.softmax(x.reshape(4, 4, 12) * 3, -1).transpose(1, 0, 2) @ jnp.tanh(x)[0, :12, None]


PROGRAMS = {
    "known columns": (lambda x: jnp.tanh(x) @ W, TOTAL),
    "known rows": (lambda x: jnp.asarray(W).T @ jnp.tanh(x).T, TOTAL),
    "one side": (
        lambda x: jax.nn.sigmoid(x) @ W,
        max(np.maximum(W, 0).sum(0).max(), -np.minimum(W, 0).sum(0).min()),
    ),
    "layer norm": (lambda x: norm(x) @ W, np.sqrt(N) * LENGTH),
    "layer norm with vectors": (lambda x: (norm(x) * GAMMA + BETA) @ W, NORMALISED * LENGTH),
    "rms norm": (lambda x: rms(x).reshape(2, 2, N) @ W, np.sqrt(N) * LENGTH),
    "softmax": (lambda x: jax.nn.softmax(x) @ W, MOST),
    "softmax of heads": (heads, 1.0),
    "one-hot": (lambda x: one_hot(x) @ W, MOST),
    "places": (lambda x: jax.nn.one_hot(jnp.round(x).astype(jnp.int32), N) @ W, MOST),
    "unknown": (lambda x: x @ W, np.inf),
}
INPUTS = (X, 50 * X, *(50 * np.tile(sign * W[:, place], (4, 1)) for place in (0, 7) for sign in (1, -1)))


def bound(fn, x=X):
    module = advance(begin(ditto.secure(fn).traced_batch((x,))[0]), "linearise").module
    found = intervals(module)
    return found[ir.ops(ir.body(ir.main(module)))[-1].operands[0]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_bound_of_a_product(name):
    fn, right = PROGRAMS[name]
    low, high = bound(fn)
    assert max(-low, high) <= 1.25 * right
    for x in INPUTS:
        values = np.asarray(fn(x))
        assert low <= values.min() and values.max() <= high


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jax.nn.softmax(x, 0) @ W,  # the probabilities of a column do not make a row
        lambda x: norm(x).T[:, :4] @ x[:, :20],
        lambda x: jax.nn.softmax(x).reshape(8, 24) @ W[:24],
    ],
)
def test_other_dimensions_are_not_taken_for_rows(fn):
    low, high = bound(fn)
    assert max(-low, high) > np.abs(W).max(0).min() * 4 or np.isinf(high)
    for x in INPUTS:
        values = np.asarray(fn(x))
        assert low <= values.min() and values.max() <= high


SPARSE = (60 * np.eye(N, 20)).astype(np.float32)


def test_a_product_proven_by_its_columns_has_no_guard_and_is_right_at_its_end():
    config = {"default": "fxp32.12"}
    plans = {}
    for name, fn in {"sparse": lambda x: jax.nn.sigmoid(x) @ SPARSE, "plain": lambda x: x @ SPARSE}.items():
        function = ditto.secure(fn, config=config, guard=True, check=False)
        plans[name] = function.lower(X).plan
        rows = {(row.op, row.what): row.ground for row in function.lower(X).ranges().rows}
        assert (rows["matmul", "result"] == "proven") == (name == "sparse")
        if name == "sparse":
            np.testing.assert_allclose(function(X * 20), fn(X * 20), atol=0.2)
    assert plans["sparse"].guard is None and plans["plain"].guard is not None


def test_a_calibration_declares_no_more_than_what_is_proven():
    fn = lambda x: jax.nn.sigmoid(x) @ SPARSE  # noqa: E731
    calibration = ditto.calibrate(fn, [(X,), (X * 2,)])
    lowered = ditto.secure(fn, calibration=calibration).lower(X)
    (row,) = [row for row in lowered.ranges(calibration).rows if row.what == "declared range"]
    assert row.op == "matmul" and row.ground == "proven" and 60 <= row.declared <= 66
