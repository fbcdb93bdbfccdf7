"""A plan with a guard answers right inputs, and refuses outputs of which a product left its ring."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError
from ditto_spu.passes.steps.guard import BIT, PRODUCTS
from ditto_spu.plan.check import check_plan
from ditto_spu.plan.codec import decode_plan, encode_plan
from ditto_spu.plan.plan import kind
from ditto_spu.plan.resources import PlanLimits

F = np.float32
RNG = np.random.default_rng(3)
X, W = RNG.normal(size=(6, 24)).astype(F), RNG.normal(size=(24, 10)).astype(F) / 5
BIG = 1e3 * np.outer(X[2] / (X[2] @ X[2]), np.eye(10)[4]).astype(F)  # one element of X @ BIG is 1000
CONFIG = {"default": "fxp32.12"}


def guarded(fn, **options):
    return ditto.secure(fn, **{"config": CONFIG, "check": False, "guard": True} | options)


def layer(x, w):
    return jax.nn.gelu(x @ w)


def convolution(x, w):
    image, kernel = x.reshape(1, 12, 12, 1), w[:9, 4:8].reshape(3, 3, 1, 4)
    dims = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=dims)


PROGRAMS = {
    "layer": (layer, {}),
    "transposed": (lambda x, w: w.T @ x.T, {}),
    "a batch": (lambda x, w: jnp.einsum("bij,bjk->bik", jnp.stack([x, x]), jnp.stack([w, w])), {}),
    "public weights": (layer, {"public": ("w",)}),
    "public rows": (layer, {"public": ("x",)}),
    "a vector": (lambda x, w: x[2] @ w, {}),
    "two layers": (lambda x, w: jnp.tanh(x @ w) @ w.T, {}),
    "convolution": (convolution, {}),
    "masked": (layer, {"masked": True}),
    "uniform64": (lambda x, w: x @ w * 1e-5, {"config": "uniform64"}),
    "ring 16": (layer, {"config": CONFIG | {"rule": [{"op": "matmul", "format": "fxp16.8", "range": 100}]}}),
}


@pytest.mark.parametrize(("fn", "options"), PROGRAMS.values(), ids=PROGRAMS)
def test_right_or_refused(fn, options):
    large = 1e7 if options.get("config") == "uniform64" else 1.0
    function = guarded(fn, **options)
    assert function.lower(X, W).plan.guard is not None
    np.testing.assert_allclose(function(X, W), fn(X, W), atol=0.05)
    with pytest.raises(RangeError, match="left the range of its format"):
        function(X, BIG * large)


def test_without_a_guard_the_result_is_wrong():
    assert np.abs(np.asarray(guarded(layer, guard=False)(X, BIG)) - layer(X, BIG)).max() > 1


def test_a_guard_costs_no_round_while_other_kernels_run():
    def program(x, w):
        return jax.nn.softmax(layer(x, w) @ w.T)

    with_guard, without = (guarded(program, guard=each).lower(X, W).plan for each in (True, False))
    names = [kind(step) for step in with_guard.steps]
    assert (names.count(PRODUCTS), names.count(BIT)) == (0, 1)
    assert len(with_guard.stages) == len(without.stages)
    rounds = [guarded(program, guard=each).run(X, W).report.rounds for each in (True, False)]
    assert rounds[0] == rounds[1]


def test_products_that_an_interval_proves_have_no_guard():
    function = guarded(lambda x, w: jax.nn.sigmoid(x) @ jnp.tanh(w))
    assert function.lower(X, W).plan.guard is None
    np.testing.assert_allclose(function(X, W), jax.nn.sigmoid(X) @ jnp.tanh(W), atol=0.05)


def test_a_guard_may_be_dealt_ahead():
    function = guarded(layer)
    for w, fits in ((W, True), (BIG, False)):
        material = function.precompute(X, w)
        if fits:
            np.testing.assert_allclose(function.run(X, w, material=material).outputs, layer(X, w), atol=0.05)
            continue
        with pytest.raises(RangeError, match="left the range"):
            function.run(X, w, material=material)


@pytest.mark.parametrize("public", [(), ("w",)])
def test_held_weights_keep_their_sums_and_are_watched_in_every_call(public):
    for weights, fits in ((W, True), (BIG, False)):
        function = guarded(layer, public=public).hold(w=weights)
        for _ in range(2):
            if fits:
                np.testing.assert_allclose(function(x=X), layer(X, weights), atol=0.05)
                continue
            with pytest.raises(RangeError, match="left the range"):
                function(x=X)


def test_a_plan_with_a_guard_is_sent_and_checked():
    plan = guarded(layer).lower(X, W).plan
    assert decode_plan(encode_plan(plan)) == plan
    check_plan(plan, PlanLimits(1 << 20, 1 << 32, 10**12))


def test_many_products_are_watched_in_groups():
    def chain(x, w):
        for place in range(10):
            x = jnp.tanh(x @ w @ w.T + place / 10)
        return x

    function = guarded(chain)
    plan = function.lower(X, W / 2).plan
    assert [kind(step) for step in plan.steps].count(PRODUCTS) == 2  # the last step watches more
    np.testing.assert_allclose(function(X, W / 2), chain(X, W / 2), atol=0.1)
    with pytest.raises(RangeError, match="left the range"):
        function(X, BIG)
