"""The training loop alone, on losses that compile fast: checkpoints, resuming, early stopping, curves."""

import csv
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu.distill import Examples, load_weights, save_weights
from ditto_spu.distill.history import plot_curves, save_curves
from ditto_spu.distill.settings import Training
from ditto_spu.distill.training import Stage, train
from ditto_spu.distill.weights import divide, flatten, unflatten
from ditto_spu.errors import InputError

DRAW = np.random.default_rng(1)
X = DRAW.standard_normal((64, 3)).astype(np.float32)
DATA = Examples((X,), (X[:, 0] > 0).astype(np.int32))
SETTINGS = Training(batch=8, evaluate_every=5, patience=100)


def loss(weights, constants, inputs, labels):
    apart = inputs[0] @ weights["layer/w"] + weights["layer/b"] - constants * labels
    return jnp.mean(apart**2), {"largest": jnp.max(jnp.abs(apart))}


def stages(first=20, second=15):
    return [Stage("one", first, 0.1, loss, jnp.float32(2)), Stage("two", second, 0.05, loss, jnp.float32(-1))]


def start():
    return {"layer/w": np.zeros(3, np.float32), "layer/b": np.float32(0)}


def strip(history):
    return [{k: v for k, v in row.items() if k != "seconds_a_step"} for row in history]


@pytest.mark.parametrize("broken_at", [("one", 3), ("one", 17), ("two", 2), ("two", 14)])
def test_a_resumed_run_equals_a_whole_one(tmp_path, broken_at):
    whole = train(stages(), start(), DATA, DATA, SETTINGS)

    def stop(stage, step, steps, figures):
        if (stage, step) == broken_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stages(), start(), DATA, DATA, SETTINGS, folder=tmp_path / "c", progress=stop)
    resumed = train(stages(), start(), DATA, DATA, SETTINGS, folder=tmp_path / "c", resume=True)
    assert strip(resumed.history) == strip(whole.history)
    for path, value in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[path], value)


def test_checkpoints_are_not_mixed_up(tmp_path):
    train(stages(5, 0), start(), DATA, DATA, SETTINGS, folder=tmp_path / "c")
    with pytest.raises(InputError, match="go on with it"):
        train(stages(5, 0), start(), DATA, DATA, SETTINGS, folder=tmp_path / "c")
    with pytest.raises(InputError, match="other settings"):
        train(stages(6, 0), start(), DATA, DATA, SETTINGS, folder=tmp_path / "c", resume=True)


def test_the_best_weights_are_kept():
    def worse(weights, constants, inputs, labels):
        return jnp.sum(-weights["layer/w"]) + 100 * jnp.sum(jnp.maximum(weights["layer/w"] - 0.3, 0)), {}

    done = train(
        [Stage("one", 100, 0.1, worse)], start(), DATA, DATA, Training(batch=8, evaluate_every=1, patience=3)
    )
    losses = [row["validation_loss"] for row in done.history]
    assert len(losses) < 100
    assert float(np.sum(-done.weights["layer/w"])) <= 0
    best = float(worse({"layer/w": jnp.asarray(done.weights["layer/w"])}, None, None, None)[0])
    assert best == pytest.approx(min(losses), abs=1e-6)


def test_a_loss_that_is_no_number_is_refused():
    def nan(weights, constants, inputs, labels):
        return jnp.sum(weights["layer/w"]) * jnp.nan, {}

    with pytest.raises(
        InputError, match=r"stage 'one', step 5: validation_loss is nan.*smaller learning rate"
    ):
        train([Stage("one", 9, 0.1, nan)], start(), DATA, DATA, SETTINGS)


def test_weights_round_trip(tmp_path):
    tree = unflatten(start() | {"table": np.arange(4)})
    assert set(flatten(tree)) == {"layer/w", "layer/b", "table"}
    moving, still = divide(flatten(tree), ("layer/b",))
    assert (set(moving), set(still)) == ({"layer/w"}, {"layer/b", "table"})
    save_weights(tree, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(load_weights(tmp_path / "w.safetensors")["table"], tree["table"])
    with pytest.raises(InputError, match="no weights at"):
        load_weights(tmp_path / "nothing")
    (tmp_path / "bad").write_text("x")
    with pytest.raises(InputError, match="no weights in the safetensors format"):
        load_weights(tmp_path / "bad")
    with pytest.raises(InputError, match="holds a slash"):
        flatten({"a/b": np.zeros(1)})


def test_curves(tmp_path, monkeypatch):
    history = train(stages(10, 5), start(), DATA, DATA, SETTINGS).history
    save_curves(history, tmp_path)
    assert json.loads((tmp_path / "history.json").read_text()) == list(history)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "5", "10", "0", "5"]
    plot_curves(history, tmp_path / "curves.svg")
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        plot_curves(history, tmp_path / "curves.svg")
