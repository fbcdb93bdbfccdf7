"""Test `secure(owner=...)` end to end: values, held arguments, modes, reports and refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.values.replicated import Rss
from ditto_spu.errors import InputError, RangeError
from ditto_spu.frontend.owner_program import Prepared
from ditto_spu.models import bert, marill
from ditto_spu.runtime.client import share_input

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 6)).astype(np.float32)
W = RNG.standard_normal((6, 6)).astype(np.float32)
OWNER = {"w": "server", "x": "client"}


def model(w, x):
    return jnp.tanh(jnp.exp(x * 0.1) @ (w @ w.T))


@pytest.fixture(scope="module")
def tiny():
    program = bert.tiny()
    function = ditto.secure(
        program.fn, public=program.public, owner={"params": "server", "ids": "client"}, checked=True
    )
    return program, function, np.asarray(program.fn(*program.args))


def test_bert_with_ids_of_the_client_and_weights_of_the_server(tiny):
    program, function, expected = tiny
    np.testing.assert_allclose(function(*program.args), expected, atol=0.03)
    lowered = function.lower(*program.args)
    emulated = lowered.emulate(jax.tree_util.tree_leaves((program.args, {})))[0]
    np.testing.assert_allclose(emulated, expected, atol=0.03)
    kinds = {row.kind for row in lowered.cost_analysis().rows}
    assert "embedding" not in kinds
    (one_hot,) = [each for each in lowered.ownership().shares if each.owner == "client"]
    assert one_hot.format == "fxp32.0" and one_hot.made_of == ("ids",)


@pytest.mark.parametrize(
    ("config", "error"),
    [({"default": "fxp32.12"}, 2**-13), ("uniform64", 2**-19), ("ditto", 2**-12)],
)
def test_own_ids_times_a_table(config, error):
    def embed(table, ids):
        with jax.named_scope("word_embeddings"):
            return jnp.take(table, ids, axis=0)

    ids = np.array([[0, 5, 3]], np.int32)
    result = ditto.secure(embed, config=config, owner={"table": "server", "ids": "client"}).run(W, ids)
    assert [row.kind for row in result.report.rows if any(row.online_bytes)] == ["matmul"]
    assert np.abs(result.outputs - W[ids]).max() <= error  # without a declared range only W is rounded


def test_only_public_inputs_reach_the_parties_in_the_clear(tiny):
    program, function, _ = tiny
    call = function.call(*program.args)
    plan = call.lowered.plan
    for entry, value in zip(plan.inputs, call.values, strict=True):
        parts = share_input(plan, entry, value, np.random.default_rng(0).bytes)
        assert entry.path == "mask" or all(isinstance(each, Rss) for each in parts), entry.path


@pytest.mark.parametrize("masked", [False, True])
def test_held_arguments_are_prepared_once(masked, monkeypatch):
    calls = []
    real = Prepared.values
    monkeypatch.setattr(Prepared, "values", lambda *each: calls.append(real(*each)) or calls[-1])
    function = ditto.secure(model, owner=OWNER, masked=masked).hold(w=W)
    for x in (X, 2 * X):
        np.testing.assert_allclose(function(x), model(W, x), atol=0.02)
    places = function.call(X).held
    assert places and all(calls[0][place] is calls[1][place] for place in places)
    material = function.precompute(jax.ShapeDtypeStruct(X.shape, X.dtype))
    np.testing.assert_allclose(function.run(X, material=material).outputs, model(W, X), atol=0.02)


def test_shares_of_held_arguments_serve_what_they_were_prepared_for():
    def scaled(w, x, scale):
        return x @ (w * scale)

    function = ditto.secure(scaled, owner=OWNER, static_argnames="scale").hold(w=W)
    for scale in (2.0, 3.0):
        np.testing.assert_allclose(function(X, scale=scale), X @ (W * scale), atol=0.03)
    one, other = (function.lower(X, scale=scale).plan for scale in (2.0, 3.0))
    assert one.steps == other.steps and one.hash() != other.hash()


def test_what_was_hoisted_and_saved_is_told():
    lowered = ditto.secure(model, owner=OWNER).lower(W, X)
    found = lowered.ownership()
    assert found.hoisted["server"]["dot_general"] == 1 and found.hoisted["client"]["exponential"] == 1
    assert lowered.cost_analysis().hoisted == {each: sum(n.values()) for each, n in found.hoisted.items()}
    assert "client: 2 operations in plaintext." in str(lowered.cost_analysis()).replace("\n", " ")
    assert found.megabytes < found.megabytes_without and found.steps < found.steps_without
    text = lowered.as_text("owners")
    assert "client computes 2 operations in plaintext (1 multiply, 1 exponential)" in text
    assert "// server, in plaintext" in text and "// the parties" in text
    assert "stablehlo.exponential" in text


def test_a_rule_for_what_an_owner_computes_is_no_unused_rule():
    def scoped(w, x):
        with jax.named_scope("early"):
            x = jnp.tanh(x)
        return x @ w

    config = {"default": "fxp32.12", "rule": [{"path": "early", "op": "tanh", "format": "fxp32.14"}]}
    function = ditto.secure(scoped, config=config, owner=OWNER)
    np.testing.assert_allclose(function(W, X), scoped(W, X), atol=0.02)
    assert "fxp32.14[4,6]  client:early/tanh" in function.lower(W, X).as_text("plan")


def test_calibration_sees_what_the_parties_compute():
    function = ditto.secure(model, owner=OWNER)
    calibration = function.calibrate([(W, X)])
    assert {op for _, op in calibration.values} == {"input", "matmul", "tanh"}
    np.testing.assert_allclose(function.with_calibration(calibration)(W, X), model(W, X), atol=0.02)


def test_frozen_layers_and_adapters():
    program = marill.tiny()
    function = ditto.secure(program.fn, public=program.public, owner=program.owner, checked=True)
    served = function.hold(**program.held)
    np.testing.assert_allclose(served(*program.inputs), program.fn(*program.args), atol=0.03)
    lowered = served.lower(*program.inputs)
    kernels = [row.kind for row in lowered.cost_analysis().rows]
    assert kernels.count("softmax") == 1 and "matmul_public" in kernels
    frozen, tuned = lowered.ownership().hoisted["client"], lowered.ownership().hoisted["server"]
    assert frozen["softmax"] == 1 and tuned["dot_general"] == 2
    plain = np.asarray(program.fn(program.args[0], {}, program.args[2]))
    assert np.abs(plain - np.asarray(program.fn(*program.args))).max() > 1e-3, "adapters matter"


@pytest.mark.parametrize(
    ("fn", "error", "message"),
    [
        (lambda w, x: jnp.log(x - 100) @ w, InputError, "'client:log', which client was to share, holds NaN"),
        (lambda w, x: jnp.exp(x + 60) @ w, RangeError, "secret argument 'client:exponential': magnitude"),
    ],
)
def test_what_an_owner_makes_must_fit(fn, error, message):
    with pytest.raises(error, match=message):
        ditto.secure(fn, owner=OWNER)(W, X)


def test_numbers_have_owners_too():
    assert ditto.secure(lambda w, x: w @ w * jnp.exp(x), owner=OWNER)(X @ X.T, 0.5) == pytest.approx(
        np.asarray(X @ X.T @ X @ X.T * np.exp(0.5)), abs=0.1
    )


def test_nan_where_the_owner_passes_it_on_is_refused():
    with pytest.raises(InputError, match=r"'x', which client was to share, holds NaN.*\[0, 0\]"):
        ditto.secure(lambda w, x: x @ w, owner=OWNER)(W, X * np.nan)


def test_an_array_known_by_shape_alone_cannot_be_shared():
    function = ditto.secure(model, owner=OWNER)
    with pytest.raises(InputError, match=r"'client:exponential' cannot be shared.*only the shape is given"):
        function(W, jax.ShapeDtypeStruct(X.shape, X.dtype))


def test_a_folded_norm_sends_less():
    def block(w, gamma, beta, x):
        x = x + x @ x.T @ x
        centred = x - x.mean(-1, keepdims=True)
        normed = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta
        return normed @ w

    args = (W, 1 + W[0], W[1], 0.3 * X)
    weights = {"w": "server", "gamma": "server", "beta": "server"}
    results = [ditto.secure(block, owner=owner, checked=True).run(*args) for owner in ({}, weights)]
    for each in results:
        np.testing.assert_allclose(each.outputs, block(*args), atol=0.05)
    apart, folded = (
        sum(sum(row.online_bytes + row.offline_bytes) for row in each.report.rows if row.kind == "layer_norm")
        for each in results
    )
    assert folded < apart


def test_functions_that_hold_the_same_share_what_is_made_of_each_argument_apart(rng):
    first, second = (rng.normal(size=(3, 3)).astype(np.float32) for _ in range(2))
    x = rng.normal(size=(2, 3)).astype(np.float32)
    owner = {"a": "server", "b": "server"}
    one = ditto.secure(lambda a, b, x: x @ jnp.tanh(b), owner=owner).hold(a=first, b=second)
    # The array before the held ones moves both by one place, so `a` is now where `b` was.
    other = ditto.secure(lambda A, a, b, x: x @ jnp.tanh(a) + A, owner=owner).hold_with(one)
    np.testing.assert_allclose(one(x), x @ np.tanh(second), atol=0.01)
    np.testing.assert_allclose(other(np.float32(0), x=x), x @ np.tanh(first), atol=0.01)
