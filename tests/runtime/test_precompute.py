"""Tests the offline phase apart from the online phase.

The tests cover material in memory and in folders, masked shares, and refusals.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import DittoError, InputError, RangeError
from ditto_spu.models import named_model
from tests.on_spu import paired

CONFIG = {"default": "fxp32.12", "rule": [{"op": "softmax", "operand": "fxp16.8", "optional": True}]}
rng = np.random.default_rng(5)
X, W = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)


def block(x, w):
    return jax.nn.softmax(jnp.tanh(x @ w) @ w.T, axis=-1)


def on_spu(x, w):
    """Compute a product, then a step on SPU, then a product of its result."""
    return paired(x @ w) @ w.T + x


def secure(fn, masked, **options):
    return ditto.secure(fn, config=CONFIG, masked=masked, **options)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fn", [block, on_spu])
def test_a_run_from_material_gives_the_same_and_deals_nothing(fn, masked):
    function = secure(fn, masked)
    material = function.precompute(X, W)
    result = function.run(X, W, material=material)
    np.testing.assert_allclose(result.outputs, fn(X, W), atol=0.01)
    report, computed = result.report, function.lower(X, W).cost_analysis()
    assert report.offline_bytes_sent_per_party == computed.offline_bytes_sent_per_party
    assert sum(report.offline_bytes_sent_per_party) == material.bytes
    assert report.offline_seconds == material.seconds > 0
    kernels = [row for row in computed.rows if row.source == "computed"]
    for row in kernels:
        counted = report.rows[row.step]
        assert (counted.online_bytes, counted.rounds) == (row.online_bytes, row.rounds), row
    if masked and fn is block:
        assert sorted(report.online_bytes_sent_per_party)[0] == 0


@pytest.mark.parametrize("masked", [False, True])
def test_a_model_with_embeddings_masks_and_layer_norms_runs_from_material(masked):
    program = named_model("bert-tiny").build()
    function = ditto.secure(program.fn, public=program.public, masked=masked)
    result = function.run(*program.args, material=function.precompute(*program.args))
    np.testing.assert_allclose(result.outputs, program.fn(*program.args), atol=0.06)
    assert (
        result.report.bytes_sent_per_party
        == function.lower(*program.args).cost_analysis().bytes_sent_per_party
    )


def test_masked_shares_need_no_precomputation_beforehand():
    result = secure(block, True).run(X, W)
    np.testing.assert_allclose(result.outputs, block(X, W), atol=0.01)
    assert result.report.offline_seconds > 0


def test_a_product_of_masked_shares_takes_one_round():
    config = {"default": "fxp32.12", "rule": [{"op": "matmul", "format": "fxp16.9"}]}
    report = ditto.secure(lambda x, w: x @ w, config=config, masked=True).run(X, W).report
    assert (report.rounds, sorted(report.online_bytes_sent_per_party)) == (1, [0, 30, 30])


def test_requests_take_turns_in_who_deals():
    function = secure(block, True).hold(w=W)
    sent = [function.run(X).report.bytes_sent_per_party for _ in range(3)]
    assert len(set(sent)) == 3 and len({sum(each) for each in zip(*sent, strict=True)}) == 1
    seeded = secure(block, True, seed=1)
    assert len({seeded.run(X, W).report.bytes_sent_per_party for _ in range(2)}) == 1


def test_checked_runs_with_masked_shares_see_every_value():
    config = {"default": "fxp32.12", "rule": [{"op": "matmul", "range": 2.0}]}
    fine = ditto.secure(lambda x, w: x @ w, config=config, masked=True, checked=True, check=False)
    np.testing.assert_allclose(fine(X / 9, W), X / 9 @ W, atol=0.01)
    with pytest.raises(RangeError, match="more than the range 2 on"):
        fine(X * 9, W)
    with pytest.raises(InputError, match="leave `material` out"):
        fine.run(X, W, material=fine.precompute(X, W))


def test_a_seed_reproduces_what_is_dealt():
    function = secure(block, True, seed=3)
    runs = [function.run(X, W, material=function.precompute(X, W)).outputs for _ in range(2)]
    assert np.array_equal(*runs)


def test_material_serves_once():
    function = secure(block, False)
    material = function.precompute(X, W)
    function.run(X, W, material=material)
    with pytest.raises(InputError, match="spent: each serves one request"):
        function.run(X, W, material=material)


@pytest.mark.parametrize("masked", [False, True])
def test_material_of_another_plan_is_refused(masked):
    material = secure(block, masked).precompute(X, W)
    with pytest.raises(InputError, match="precompute with the same function"):
        secure(on_spu, masked).run(X, W, material=material)
    with pytest.raises(InputError, match="precompute with the same function"):
        secure(block, not masked).run(X, W, material=material)


@pytest.mark.parametrize("masked", [False, True])
def test_material_in_a_folder_serves_once_and_is_wiped(tmp_path, masked):
    function, folder = secure(block, masked), tmp_path / "requests" / "one"
    function.precompute(X, W, folder=folder)
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    material, copy = ditto.load_material(folder), ditto.load_material(folder)
    np.testing.assert_allclose(function.run(X, W, material=material).outputs, block(X, W), atol=0.01)
    assert [path.name for path in folder.iterdir()] == ["spent"]
    with pytest.raises(InputError, match="spent"):
        function.run(X, W, material=copy)
    with pytest.raises(InputError, match="spent"):
        ditto.load_material(folder)


def test_folders_that_hold_no_material_are_explained(tmp_path):
    with pytest.raises(InputError, match="there is no material in"):
        ditto.load_material(tmp_path)
    function, folder = secure(block, False), tmp_path / "one"
    function.precompute(X, W, folder=folder)
    with pytest.raises(InputError, match="exists: material goes into a folder of its own"):
        function.precompute(X, W, folder=folder)
    data = (folder / "party1.npz").read_bytes()
    for damaged in (data[: len(data) // 2], b"", data[:200] + b"x" * 50 + data[250:]):
        (folder / "party1.npz").write_bytes(damaged)
        with pytest.raises(DittoError, match="damaged"):
            ditto.load_material(folder)


def test_keys_do_not_show_in_what_is_printed():
    text = repr(secure(block, False).precompute(X, W))
    assert "key" not in text and "array" not in text
