"""A calibration makes the formats of the default configuration as narrow as its values allow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.calibration.fraction_bits import bits_for, usual_size
from ditto_spu.calibration.summary import Observed, summary
from ditto_spu.errors import ConfigError, InputError, RangeError
from ditto_spu.models import named_model
from ditto_spu.rules.load import load_config


def rng_values(shape, size=1.0, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) * size).astype(np.float32)


def calibrated(fn, *args, config="auto"):
    return ditto.secure(fn, config=config, calibration=ditto.calibrate(fn, [args]))


def sent(function, *args):
    return sum(function.lower(*args).cost_analysis().bytes_sent_per_party)


def norm(x):
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)


SIZES = np.logspace(-2, 2, 16).astype(np.float32)
X, W = rng_values((6, 16)), rng_values((16, 8), 0.2, 1)
PROGRAMS = {
    "product": (lambda x, w: x @ w, (X, W)),
    "large values": (lambda x, w: (x * 1000) @ (w * 300), (X, W)),
    "beyond ring 32": (lambda x, w: x @ w, (X * 1e4, W * 1e3)),
    "small weights": (lambda x, w: x @ w, (X, W * 2.0**-9)),
    "small values": (lambda x, w: x @ w, (X * 2.0**-7, W)),
    "small results": (lambda x: x * 0.01, (X,)),
    "terms that cancel": (lambda x: x - 1000.0, (1000 + X * 0.02,)),
    "cancelling products": (lambda x, w: x @ w - (x @ w + 0.01), (X, W)),
    "square": (lambda x: jnp.sum(x * x, axis=-1), (X * 30,)),
    "quotient": (lambda x, y: x / y, (X, 1 + np.abs(X))),
    "small divisors": (lambda x, y: x / y, (X, 0.004 + np.abs(X) / 50)),
    "exponential": (lambda x: jnp.exp(x), (X * 3,)),
    "gelu": (jax.nn.gelu, (X * 4,)),
    "gelu beyond its window": (jax.nn.gelu, (X * 20,)),
    "silu": (jax.nn.silu, (X * 4,)),
    "tanh": (jnp.tanh, (X,)),
    "softmax": (jax.nn.softmax, (X,)),
    "softmax of far scores": (jax.nn.softmax, (X * 40,)),
    "norm": (
        lambda x: (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5),
        (X,),
    ),
    "norm of small rows": (
        lambda x: (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6),
        (X * 0.01,),
    ),
    "norm of large rows": (
        lambda x: (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6),
        (X * 800,),
    ),
    "comparison": (lambda x: jnp.where(x > 0.001, x, -1.0), (X * 0.01,)),
    "largest": (lambda x: jnp.max(x, axis=-1), (X * 5,)),
    "zeros": (lambda x, w: x @ w, (X * 0, W)),
    "a scalar": (lambda x: jnp.sum(x) * 0.5, (X,)),
    "columns of many sizes": (lambda x: (x - 3 * SIZES) / SIZES, (X * SIZES + 3 * SIZES,)),
    "products of two sizes": (lambda x: (x * (x * 0.001)) * 1000, (X,)),
    "matrix products of two sizes": (lambda x, w: ((x * 0.001) @ w) * 1000 + x @ w, (X, W)),
    "places of near values": (lambda x: jnp.argmax(x, -1).astype(jnp.float32), (100 + X * 0.001,)),
    "counts above a threshold": (lambda x: jnp.sum(x > 1000.0, -1).astype(jnp.float32), (1000 + X * 0.01,)),
    "bins": (lambda x: jnp.digitize(x, np.array([-1.0, 0.0, 1.0])).astype(jnp.float32), (X[:8],)),
}
# Values that the default refuses, or rounds too much. A calibration may pay for their digits.
DIGITS = {
    "nearest centre": (
        lambda x: jnp.argmin(((x[:, None] - x[None, :3] * 1.1) ** 2).sum(-1), 1).astype(jnp.float32),
        (X * 0.01,),
    ),
    "squares of large deviations": (lambda x: ((x - x.mean()) ** 2).sum(), (X[0] * 3e4,)),
    "variance of large values": (lambda x: x.var(), (X[0] * 1e5,)),
    "rows of a table of large values": (lambda x, i: x[i], (X * 1e5, np.int32([3, 0]))),
    "median of small values": (lambda x: jnp.median(x) * 1000, (X[0, :7] * 1e-4,)),
    "correlation": (lambda x: jnp.corrcoef(x)[0, 1], (X[:2] * 0.01 + X[2] * 0.01,)),
    "cosines of small rows": (
        lambda x: (x[0] @ x[1]) / (jnp.linalg.norm(x[0]) * jnp.linalg.norm(x[1])),
        (X[:2] * 0.001 + 0.001,),
    ),
    "share of a small divisor": (lambda x, y: x / (y * y), (X * 1e-5, 0.002 + np.abs(X) / 500)),
}


@pytest.mark.parametrize("name", (*PROGRAMS, *DIGITS))
def test_calibrated_formats_are_right_and_cost_no_more(name):
    fn, args = (PROGRAMS | DIGITS)[name]
    function = calibrated(fn, *args)
    got = np.asarray(function(*args), np.float64)
    expected = np.asarray(fn(*args), np.float64)
    usual = np.sqrt(np.mean(expected**2))
    assert np.max(np.abs(got - expected)) <= 0.02 * usual + 0.005 * np.max(np.abs(expected)) + 2.0**-11
    if name in PROGRAMS:
        assert sent(function, *args) <= sent(ditto.secure(fn), *args)


@pytest.mark.slow
def test_a_transformer_is_as_cheap_as_by_hand():
    program = named_model("bert-base-layer").shapes()
    full = named_model("bert-base-layer").program()
    calibration = ditto.secure(full.fn, **full.options).calibrate(full.calls[:1])
    by_hand = ditto.secure(program.fn, config="ditto", **program.options).lower(*program.args)
    chosen = ditto.secure(program.fn, calibration=calibration, **program.options).lower(*program.args)
    for ours, theirs in zip(_costs(chosen), _costs(by_hand), strict=True):
        assert ours <= 1.02 * theirs


def test_scores_wait_for_the_room_of_their_product():
    def attend(x, w, v):
        return jax.nn.softmax((x @ w) @ (x @ v).T / 4, axis=-1)

    args = X, 20 * W, rng_values((16, 8), 1.2, 2)
    assert 512 < np.max(np.abs((args[0] @ args[1]) @ (args[0] @ args[2]).T)) < 1000
    function = calibrated(attend, *args)
    assert "fxp64" not in str(function.lower(*args).plan)
    assert np.max(np.abs(np.asarray(function(*args)) - attend(*args))) < 0.02


def _costs(lowered):
    report = lowered.cost_analysis()
    return sum(report.bytes_sent_per_party), report.rounds


def test_values_have_twice_the_observed_room():
    fn, args = PROGRAMS["product"]
    calibration = ditto.calibrate(fn, [args])
    rows = ditto.secure(fn, calibration=calibration).lower(*args).ranges(calibration).rows
    assert all(row.headroom >= 0.5 for row in rows)
    assert all(row.format.startswith("fxp32") for row in rows)
    with pytest.raises(RangeError):
        ditto.secure(fn, calibration=calibration)(args[0] * 1e6, args[1])


def test_the_choice_is_an_ordinary_configuration(tmp_path):
    fn, args = PROGRAMS["gelu"]
    chosen = calibrated(fn, *args).lower(*args)
    path = tmp_path / "chosen.toml"
    path.write_text(chosen.as_text("config"))
    again = ditto.secure(fn, config=path).lower(*args)
    assert [str(step) for step in again.plan.steps] == [str(step) for step in chosen.plan.steps]
    assert not load_config(path).narrow


def test_rules_of_the_user_come_first():
    fn, args = PROGRAMS["product"]
    config = {"default": "fxp64.18", "narrow": True, "rule": [{"op": "matmul", "format": "fxp64.20"}]}
    assert "fxp64.20" in calibrated(fn, *args, config=config).lower(*args).as_text("plan")


def test_another_configuration_keeps_its_formats():
    fn, args = PROGRAMS["product"]
    plan = calibrated(fn, *args, config="uniform64").lower(*args).as_text("plan")
    assert "fxp32" not in plan


def test_the_calibration_of_another_function_is_refused():
    calibration = ditto.calibrate(jax.nn.gelu, [(X,)])
    with pytest.raises(InputError, match="calibrate the function that you run"):
        ditto.secure(lambda x, w: x @ w, calibration=calibration).lower(X, W)


def test_narrow_is_true_or_false():
    with pytest.raises(ConfigError, match="narrow must be true or false"):
        load_config({"default": "fxp64.18", "narrow": "yes"})


def test_the_usual_size_ignores_outliers_and_serves_sparse_values():
    values = np.full(1000, 0.5, np.float32)
    values[:5] = 1e6
    assert 0.4 < usual_size(summary(values)) < 0.6
    sparse = np.zeros(1000, np.float32)
    sparse[0] = 8.0
    assert 0.1 < usual_size(summary(sparse)) < 1
    assert usual_size(Observed(0.0, 0.0, 0, {})) == 0
    assert usual_size(summary(np.zeros(4, np.float32))) == 0


@pytest.mark.parametrize(("size", "bits"), [(1.0, 6), (0.25, 8), (16.0, 2), (0.0, 0), (float("inf"), 0)])
def test_small_values_need_more_bits(size, bits):
    assert bits_for(size) == bits
