"""Inputs that grow beyond what a calibration saw give right outputs, or none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError

F = np.float32
RNG = np.random.default_rng(7)
X = RNG.normal(size=(6, 12)).astype(F)
TABLE = RNG.normal(size=(6, 12)).astype(F)


def normalised(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


PROGRAMS = {
    "cube": lambda x: x * x * x,
    "sum of squares": lambda x: jnp.sum(x * x, -1),
    "norm": lambda x: normalised(x + TABLE),
    "scaled sum": lambda x: (x + x[::-1]) * 0.3 + 0.1,
    "embedding": lambda x: (TABLE + x) * x,
    "exp": lambda x: jnp.exp(x + x[::-1]),
    "log": lambda x: jnp.log(x[::-1] + 3.5),
    "quotient": lambda x: 1 / (x + 4),
    "gelu": lambda x: jax.nn.gelu(x * TABLE),
    "softmax": lambda x: jax.nn.softmax(x + 1),
}
SLOW = ("variance", "sqrt", "scale", "add", "matmul", "a choice")
PROGRAMS |= {
    "variance": lambda x: x.var(-1),
    "sqrt": lambda x: jnp.sqrt(x + 3.5),
    "scale": lambda x: x * 0.37,
    "add": lambda x: x + x[::-1],
    "matmul": lambda x: x @ x.T,
    "a choice": lambda x: jnp.where(x > 0, x * x * x, x),
}
CASES = [
    pytest.param(fn, calibrated, id=f"{name}{'' if calibrated else ', plain'}", marks=marks)
    for name, fn in PROGRAMS.items()
    for calibrated in (True, False)
    for marks in ((pytest.mark.slow,) if name in SLOW or not calibrated else (),)
]


@pytest.mark.parametrize(("fn", "calibrated"), CASES)
def test_right_or_refused(fn, calibrated):
    calibration = ditto.calibrate(fn, [(X,)]) if calibrated else None
    function = ditto.secure(fn, config="auto", calibration=calibration, guard=True, check=False)
    refused = []
    for factor in (1, 16, 1e3, 1e14):
        x = (X * factor).astype(F)
        exact = np.asarray(fn(x))
        try:
            outputs = function(x)
        except RangeError:
            refused.append(factor)
            continue
        assert np.abs(outputs - exact).max() <= 0.02 * np.abs(exact).max() + 0.05, factor
    assert refused and 1 not in refused


def test_each_range_says_who_watches_it():
    def program(x, w):
        return jnp.log((x @ w) * (x @ w) + x[:, :6] + 9)

    rows = ditto.secure(program, config="auto").lower(X, TABLE[:, :6].repeat(2, 0)).ranges().rows
    found = {(row.op, row.what): row.watched for row in rows}
    assert found["input", "result"] == found["matmul", "operand"] == "owner"
    assert found["matmul", "product"] == found["multiply", "product"] == found["add", "result"] == "guard"
    assert found["logarithm", "argument"] == "guard"
    rows = ditto.secure(lambda x: normalised(x) @ x.T, config="auto").lower(X).ranges().rows
    found = {(row.op, row.what): row.watched for row in rows}
    assert found["layer_norm", "variance"] == "chance" and found["layer_norm", "normalised"] == "-"  # proven


def test_a_branch_that_is_not_taken_may_hold_anything():
    def program(x):
        return jnp.where(x > 0, jnp.log(jnp.abs(x)), x) + jnp.where(x > 0, 1 / x, 0.0)

    x = np.abs(X) + 0.1
    x[2] = 0
    outputs = ditto.secure(program, config="auto", guard=True, check=False)(x)
    exact = np.where(x > 0, np.log(np.where(x > 0, x, 1)) + 1 / np.where(x > 0, x, 1), x)
    np.testing.assert_allclose(outputs, exact, atol=0.01)
