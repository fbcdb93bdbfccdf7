"""Tests kept outputs: handles serve later runs, tell nothing of their value, and refuse misuse."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss, reconstruct
from ditto_spu.errors import InputError

PLAIN = {"default": "fxp32.12"}
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def first(w, x):
    h = x @ w
    return {"seen": h.sum(), "state": {"h": h, "x": x}}


def second(w, state):
    return state["h"] @ w.T + state["x"]


W = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def kept():
    result = ditto.secure(first, config=PLAIN).run(W, X, keep=("state",))
    return result.outputs["state"]


def test_a_handle_goes_from_one_run_to_another_functions_and_serves_again(kept):
    secure = ditto.secure(second, config=PLAIN)
    expected = (X @ W) @ W.T + X
    for _ in range(2):
        assert np.max(np.abs(secure(W, kept) - expected)) < 0.02
    assert len(secure._compiled) == 1


def test_only_what_is_not_kept_is_opened():
    result = ditto.secure(first, config=PLAIN).run(W, X, keep=("state",))
    assert abs(result.outputs["seen"] - (X @ W).sum()) < 0.02
    assert isinstance(result.outputs["state"]["h"], ditto.Kept)


def test_what_parties_keep_are_replicated_shares_of_the_value(kept):
    handle = kept["h"]
    parts = handle.parts()
    assert all(isinstance(each, Rss) for each in parts)
    joined = reconstruct(parts) * 2.0**-handle.fxp.fraction_bits
    assert np.max(np.abs(joined - X @ W)) < 0.01
    for part in parts:  # no component is the value
        assert np.max(np.abs(part.mine.astype(float) * 2.0**-12 - X @ W)) > 1


def test_a_handle_cannot_be_read_printed_or_stored(kept):
    handle = kept["h"]
    assert repr(handle) == f"<{handle.path}: float32[3, 4], {handle.fxp}, in shares>"
    with pytest.raises(InputError, match="stays in shares and cannot be read"):
        np.asarray(handle)
    with pytest.raises(InputError, match="cannot be stored"):
        pickle.dumps(handle)


def test_a_released_handle_is_refused():
    handle = ditto.secure(lambda x: (x * x, x + 1), config=PLAIN).run(X, keep=(1,)).outputs[1]
    handle.release()
    with pytest.raises(InputError, match="were released"):
        ditto.secure(lambda x: x + x, config=PLAIN)(handle)


def test_a_handle_keeps_its_format_and_another_one_is_cast(kept):
    secure = ditto.secure(lambda x: jnp.tanh(x), config={"default": "fxp64.18"})
    assert np.max(np.abs(secure(kept["h"]) - np.tanh(X @ W))) < 0.02
    assert "fxp32.12[3,4]" in secure.lower(kept["h"]).as_text("plan")


def test_a_handle_of_another_format_or_shape_does_not_enter_a_plan(kept):
    from ditto_spu.runtime.simulate import simulate

    secure = ditto.secure(lambda x: x + x, config=PLAIN)
    plan = secure.lower(X).plan
    other = ditto.secure(lambda x: (x, x + 1), config={"default": "fxp32.9"}).run(X, keep=(1,)).outputs[1]
    assert other.fxp == Fxp(32, 9)
    with pytest.raises(InputError, match=r"was compiled for fxp32.12\[3,4\], but .* as fxp32.9\[3,4\]"):
        simulate(plan, [other])
    with pytest.raises(InputError, match="was compiled for"):
        simulate(secure.lower(X[:2]).plan, [kept["h"]])


def test_handles_are_for_secret_arguments_of_runs(kept):
    handle = kept["h"]
    with pytest.raises(InputError, match="argument 'x' is public"):
        ditto.secure(lambda x, y: x * y, public=("x",), config=PLAIN)(handle, X)
    secure = ditto.secure(lambda x: x + x, config=PLAIN)
    with pytest.raises(InputError, match="a comparison needs values"):
        secure.compare(handle)
    with pytest.raises(InputError, match="a calibration needs values"):
        secure.calibrate([(handle,)])
    with pytest.raises(InputError, match="masked shares belong to one request"):
        ditto.secure(lambda x: x + x, config=PLAIN, masked=True)(handle)
    with pytest.raises(InputError, match="masked shares belong to one request"):
        ditto.secure(lambda x: (x, x + x), config=PLAIN, masked=True).run(X, keep=(1,))


def test_keep_names_outputs():
    secure = ditto.secure(first, config=PLAIN)
    with pytest.raises(InputError, match="keep names 'stat', but the outputs are 'seen', 'state'"):
        secure.run(W, X, keep=("stat",))
    with pytest.raises(InputError, match=r"write keep=\('state',\)"):
        secure.run(W, X, keep="state")
    with pytest.raises(InputError, match="a single array"):
        ditto.secure(lambda x: x + x, config=PLAIN).run(X, keep=(0,))


def test_checked_runs_join_what_is_kept(kept):
    secure = ditto.secure(second, config=PLAIN, checked=True)
    assert np.max(np.abs(secure(W, kept) - ((X @ W) @ W.T + X))) < 0.02


def test_a_public_output_is_known_and_not_kept():
    result = ditto.secure(lambda x, n: (x * 2, n + 1), public=("n",), config=PLAIN).run(X, 3, keep=(0, 1))
    assert isinstance(result.outputs[0], ditto.Kept) and result.outputs[1] == 4


def test_two_functions_share_what_they_hold_once():
    one = ditto.secure(first, config=PLAIN).hold(w=W)
    two = ditto.secure(second, config=PLAIN).hold_with(one)
    state = one.run(X, keep=("state",)).outputs["state"]
    held = dict(one._held._parts)
    assert np.max(np.abs(two(state) - ((X @ W) @ W.T + X))) < 0.02
    assert two._held._parts == held and len(held) == 1


def test_material_serves_a_run_on_handles(kept):
    secure = ditto.secure(second, config=PLAIN)
    material = secure.precompute(W, kept)
    result = secure.run(W, kept, material=material)
    assert np.max(np.abs(result.outputs - ((X @ W) @ W.T + X))) < 0.02
