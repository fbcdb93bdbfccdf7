"""Tests the decorator as a user meets it: pytrees, shapes, visibility, caching, errors and seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import InputError, RangeError, UnsupportedOpError
from tests.on_spu import paired

PLAIN = {"default": "fxp32.12"}


def _close(left, right, tolerance=2e-3):
    left, right = jax.tree_util.tree_leaves(left), jax.tree_util.tree_leaves(right)
    assert len(left) == len(right)
    for mine, theirs in zip(left, right, strict=True):
        theirs = np.asarray(theirs)
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, atol=tolerance)


def test_a_decorated_function_returns_what_the_plain_one_does(rng):
    @ditto.secure(config=PLAIN)
    def affine(params, x):
        return {"y": x @ params["w"] + params["b"], "pair": (x.sum(), x.T[None])}

    params = {"w": rng.normal(size=(4, 5)).astype(np.float32), "b": np.ones(5, np.float32)}
    x = rng.normal(size=(3, 4)).astype(np.float32)
    _close(affine(params, x), {"y": x @ params["w"] + params["b"], "pair": (x.sum(), x.T[None])})
    assert affine.__name__ == "affine"


@pytest.mark.filterwarnings("ignore::ditto_spu.errors.RangeWarning")  # drawn values may be small
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 2, 3)])
def test_any_rank(shape, rng):
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    _close(ditto.secure(lambda x: (x * x + x * 0.5 - 1.0, -x), config=PLAIN)(x), (x * x + x * 0.5 - 1.0, -x))


def test_static_arguments_nested_jit_closures_and_python_numbers(rng):
    table = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)

    @jax.jit
    def inner(x):
        return x @ table

    def fn(x, power, shift=1.0):
        for _ in range(power):
            x = x * 0.5
        return inner(x) + shift

    x = rng.normal(size=(3, 4)).astype(np.float32)
    secure = ditto.secure(fn, config=PLAIN, static_argnums=1)
    _close(secure(x, 2, shift=3.0), fn(x, 2, 3.0))


def test_public_arguments_stay_public(rng):
    x, mask = rng.normal(size=(4,)).astype(np.float32), np.array([1, 0, 1, 1], np.int32)
    secure = ditto.secure(lambda x, mask: (x * mask, mask.sum()), config=PLAIN, public=("mask",))
    _close(secure(x, mask), (x * mask.astype(np.float32), mask.sum(dtype=np.int32)))
    plan = secure.lower(x, mask).plan
    assert [plan.vars[each.var].fxp is None for each in plan.inputs] == [False, True]
    assert not [step for step in plan.steps if getattr(step, "kernel", "") == "multiply"]


def test_layout_operations_are_local(rng):
    def fn(x, y):
        z = jnp.concatenate([x, y[::-1]], axis=0)
        z = jnp.pad(z, ((1, 0), (0, 2)), constant_values=1.5)
        return (
            z[1:3, ::2].T,
            jnp.where(jnp.arange(2) > 0, 2.0, x[0, :2]),
            jax.lax.dynamic_slice(z, (1, 0), (2, 2)),
        )

    x, y = (rng.normal(size=(2, 3)).astype(np.float32) for _ in range(2))
    secure = ditto.secure(fn, config=PLAIN)
    _close(secure(x, y), fn(x, y))
    assert secure.run(x, y).report.bytes_sent_per_party == (0, 0, 0)


def test_what_has_no_kernel_runs_on_spu_inside_the_same_program(rng):
    def fn(x, n):
        h = x @ x.T
        return paired(h) * 2.0, jnp.sort(x, axis=1), jnp.argmax(x, axis=0), n // 3, (x > 0) & (x < 1)

    x, n = rng.uniform(-1, 1, (3, 3)).astype(np.float32), np.array([7, 9, -4], np.int32)
    result = ditto.secure(fn, config=PLAIN).run(x, n)
    _close(result.outputs, fn(x, n), 5e-3)
    assert {row.source for row in result.report.rows if row.kind == "spu"} == {"measured"}


def test_a_call_is_compiled_once_per_shape(rng):
    traces = []

    def fn(x):
        traces.append(x.shape)
        return x + 1.0

    secure = ditto.secure(fn, config=PLAIN)
    for size in (2, 2, 3):
        secure(np.ones(size, np.float32))
    assert traces == [(2,), (3,)]


def test_a_seed_reproduces_a_run_and_no_seed_does_not(rng):
    x = rng.normal(size=64).astype(np.float32)
    seeded = ditto.secure(lambda x: x * x, config=PLAIN, seed=1)
    assert np.array_equal(seeded(x), seeded(x))
    free = ditto.secure(lambda x: x * x, config=PLAIN)
    assert not np.array_equal(free(x), free(x))  # the masks decide how a truncation rounds


def test_predicted_cost_equals_the_counted_one(rng):
    x = rng.normal(size=(5, 6)).astype(np.float32)
    secure = ditto.secure(lambda x: (x @ x.T) * (x.sum() * 0.3), config=PLAIN)
    predicted, counted = secure.lower(x).cost_analysis(), secure.run(x).report
    assert predicted.online_bytes_sent_per_party == counted.online_bytes_sent_per_party
    assert predicted.offline_bytes_sent_per_party == counted.offline_bytes_sent_per_party
    assert predicted.rounds == counted.rounds


def test_the_stages_can_be_read(rng):
    lowered = ditto.secure(lambda x: jax.nn.softmax(x), config=PLAIN).lower(np.ones((2, 3), np.float32))
    assert "ditto.softmax" in lowered.as_text("fused")
    assert 'ditto.format = "fxp32.12"' in lowered.as_text("formats")
    assert "softmax(" in lowered.as_text("plan")
    with pytest.raises(InputError, match="did you mean 'plan'"):
        lowered.as_text("plam")


def test_checked_mode_names_the_path_of_an_overflow():
    @ditto.secure(config=PLAIN, checked=True)
    def fn(x):
        with jax.named_scope("block"):
            return x * x

    with pytest.raises(RangeError, match="'block'"):
        fn(np.full(3, 900.0, np.float32))
    assert np.allclose(fn(np.full(3, 6.0, np.float32)), 36.0, atol=0.01)


def test_a_declared_range_that_is_exceeded_is_caught():
    config = {"default": "fxp32.12", "rule": [{"op": "multiply", "range": 10.0}]}
    for options, message in (
        ({"checked": True, "check": False}, "more than the range 10"),
        ({}, r"multiply at '' \(.*test_api.py:\d+\): declared range reached 16 to 16"),
    ):
        with pytest.raises(RangeError, match=message):
            ditto.secure(lambda x: x * x, config=config, **options)(np.full(3, 4.0, np.float32))


def test_a_value_outside_its_format_is_refused():
    with pytest.raises(RangeError, match=r"'x'.*does not fit fxp32\.12"):
        ditto.secure(lambda x: x + 1.0, config=PLAIN)(np.full(2, 1e7, np.float32))


def test_a_constant_outside_its_format_is_refused():
    with pytest.raises(RangeError, match="constant of magnitude 1e"):
        ditto.secure(lambda x: x + 1e8, config=PLAIN)(np.ones(2, np.float32))


def test_what_nothing_can_run_is_refused_before_the_run():
    with pytest.raises(UnsupportedOpError, match="complex"):
        ditto.secure(lambda x: jnp.abs(jnp.fft.fft(x)), config=PLAIN)(np.ones(8, np.float32))


def test_a_declared_range_that_does_not_fit_its_product_is_refused():
    config = {
        "default": "fxp32.14",
        "rule": [{"op": "matmul", "range": 100.0}, {"op": "weight", "format": "fxp32.14"}],
    }
    with pytest.raises(RangeError, match="before truncation"):
        ditto.secure(lambda x, w: x @ w, config=config).lower(
            np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)
        )


def test_held_arguments_are_shared_once_and_left_out_of_calls(rng):
    def dense(params, x, scale=1.0):
        return x @ params["w"] * scale + params["b"]

    params = {"w": rng.normal(size=(4, 5)).astype(np.float32), "b": np.ones(5, np.float32)}
    x, y = (rng.normal(size=(3, 4)).astype(np.float32) for _ in range(2))
    served = ditto.secure(dense, config=PLAIN).hold(params=params)
    _close(served(x), dense(params, x))
    shares = dict(served._held._parts)
    _close(served(y, scale=2.0), dense(params, y, 2.0))
    _close(served(y), dense(params, y))
    assert served._held._parts.keys() == shares.keys()
    assert all(served._held._parts[key] is value for key, value in shares.items())
    weights = [parts[0] for parts in shares.values() if parts[0].prepared]
    assert len(weights) == 1 and weights[0].shape == (
        4,
        5,
    )  # forms that the product prepared stay with the weights


@pytest.mark.parametrize("masked", [False, True])
def test_held_weights_serve_runs_from_material(rng, masked):
    def fn(w, x):
        return jnp.tanh(x @ w)

    w, x = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    served = ditto.secure(fn, config=PLAIN, masked=masked).hold(w=w)
    for scale in (1.0, 0.5):
        material = served.precompute(x)
        _close(served.run(x * np.float32(scale), material=material).outputs, fn(w, x * scale), 5e-3)
    with pytest.raises(InputError, match="dealt for other held shares"):
        ditto.secure(fn, config=PLAIN, masked=masked).hold(w=w).run(x, material=served.precompute(x))
    rows = served.compare(x, puma=False).rows
    assert [row.max_abs_error < 5e-3 for row in rows[1:]] == [True, True]


def test_mistakes_in_holding_are_explained(rng):
    def fn(w, x):
        return x @ w

    secure = ditto.secure(fn, config=PLAIN)
    with pytest.raises(InputError, match="hold names 'weights', but the parameters of fn are w, x"):
        secure.hold(weights=np.eye(3))
    served = secure.hold(w=np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="argument 'w' is given twice: it is held"):
        served(np.ones((2, 3)), w=np.eye(3))
    with pytest.raises(InputError, match=r"beside what is held \(w\) there are only x"):
        served(np.ones((2, 3)), np.ones(3))
