"""Distillation of a tiny transformer: it improves the student, resumes exactly and refuses mistakes."""

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.distill import Distillation, Examples, FineTuning, distill, evaluate, finetune
from ditto_spu.distill.distillation import relative_error, soft_cross_entropy
from ditto_spu.distill.weights import unflatten
from ditto_spu.errors import InputError
from tests.distill.tiny import QUAD, classify, examples, parameters

TRAIN, VALIDATION = examples(256, 1), examples(64, 2)
SETTINGS = Distillation(
    batch=16, layer_steps=60, layer_rate=3e-3, output_steps=60, output_rate=3e-3, evaluate_every=20
)


@pytest.fixture(scope="module")
def teacher():
    settings = FineTuning(batch=16, label_steps=150, label_rate=1e-2, evaluate_every=50)
    trained = finetune(classify, parameters(), TRAIN, VALIDATION, settings)
    assert trained.history[-1]["accuracy"] > 0.8 > trained.history[0]["accuracy"]
    return unflatten(trained.weights)


@pytest.fixture(scope="module")
def distilled(teacher):
    return distill(classify, teacher, TRAIN, VALIDATION, QUAD, SETTINGS)


def strip(history):
    return [{k: v for k, v in row.items() if k != "seconds_a_step"} for row in history]


def test_both_stages_bring_the_secure_program_nearer_to_the_float_one(distilled):
    for stage in ("layers", "outputs"):
        losses = [row["validation_loss"] for row in distilled.history if row["stage"] == stage]
        assert min(losses) < losses[0]
    first, last = distilled.history[0], distilled.history[-1]
    assert last["agreement"] > max(first["agreement"], 0.85)
    assert last["outside"] == 0


def test_the_trained_model_is_served_within_its_calibrated_ranges_and_bounds(teacher, distilled):
    found = evaluate(
        classify,
        distilled.params,
        VALIDATION,
        QUAD,
        reference=teacher,
        secure=32,
        bounds=2,
        batch=16,
        calibration=distilled.calibration,
    )
    assert found.same_predictions == 1.0
    assert found.within_worst == 1.0
    assert found.max_error < found.bound_worst
    assert found.accuracy["three parties"] > 0.6
    assert found.megabytes_an_example > 0 < found.seconds_an_example


def test_the_calibration_is_of_the_replaced_functions(distilled):
    values = distilled.calibration.at("layer/dense", "gelu")
    assert values.least >= 0.375 - 0.01  # Quad has no smaller value, GeLU goes down to -0.17


@pytest.mark.slow
def test_a_training_that_breaks_off_goes_on_as_if_it_had_not(teacher, tmp_path):
    settings = Distillation(
        batch=16, layer_steps=12, layer_rate=3e-3, output_steps=8, output_rate=3e-3, evaluate_every=4
    )
    whole = distill(classify, teacher, TRAIN, VALIDATION, QUAD, settings, folder=tmp_path / "whole")

    def stop(stage, step, steps, figures):
        if (stage, step) == ("outputs", 6):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(
            classify, teacher, TRAIN, VALIDATION, QUAD, settings, folder=tmp_path / "broken", progress=stop
        )
    with pytest.raises(InputError, match=r"holds the checkpoints.*--resume"):
        distill(classify, teacher, TRAIN, VALIDATION, QUAD, settings, folder=tmp_path / "broken")
    other = Distillation(batch=32, layer_steps=12, output_steps=8)
    with pytest.raises(InputError, match="other settings"):
        distill(classify, teacher, TRAIN, VALIDATION, QUAD, other, folder=tmp_path / "broken", resume=True)
    resumed = distill(
        classify, teacher, TRAIN, VALIDATION, QUAD, settings, folder=tmp_path / "broken", resume=True
    )
    assert strip(resumed.history) == strip(whole.history)
    for found, wanted in zip(*map(jax.tree_util.tree_leaves, (resumed.params, whole.params)), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_stage_ends_early_and_keeps_its_best_weights(teacher):
    settings = Distillation(
        batch=16, layer_steps=40, layer_rate=10.0, output_steps=0, evaluate_every=2, patience=2
    )
    done = distill(classify, teacher, TRAIN, VALIDATION, QUAD, settings)
    assert done.history[-1]["step"] < 40
    assert np.isfinite(done.history[-1]["validation_loss"])


def test_frozen_weights_stay(teacher):
    settings = Distillation(
        batch=16, layer_steps=0, output_steps=2, output_rate=1e-2, frozen=("norm/.*", "up")
    )
    done = distill(classify, teacher, TRAIN, VALIDATION, QUAD, settings)
    np.testing.assert_array_equal(done.params["up"], teacher["up"])
    np.testing.assert_array_equal(done.params["norm"]["scale"], teacher["norm"]["scale"])
    assert np.abs(done.params["down"] - teacher["down"]).max() > 0


def test_losses_are_what_they_say():
    a, b = np.array([[1.0, 3.0]], np.float32), np.array([[2.0, 3.0]], np.float32)
    assert float(relative_error(a, b)) == pytest.approx(1 / 13)
    mask = np.array([[True, False]])
    assert float(relative_error(a, b, mask)) == pytest.approx(1 / 4)
    p = np.exp(b[0] / 2) / np.exp(b[0] / 2).sum()
    q = np.exp(a[0] / 2) / np.exp(a[0] / 2).sum()
    assert float(soft_cross_entropy(a, b, 2.0)) == pytest.approx(-4 * float((p * np.log(q)).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": ("score",)}, "no point 'score'.*scores"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"layer_rate": -1.0}, "layer_rate must not be negative"),
        ({"range_fill": 2.0}, "range_fill"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Distillation(**change)


def test_mistakes_are_refused(teacher):
    def plain(params, x):
        return x.mean(1) @ params["head"]

    head = {"head": teacher["head"]}
    small = Distillation(batch=16, layer_steps=1)
    with pytest.raises(InputError, match=r"no softmax or layer normalisation.*layer_steps = 0"):
        distill(plain, head, TRAIN, VALIDATION, {"default": "fxp32.12"}, small)
    with pytest.raises(InputError, match="batch of 16 needs as many"):
        distill(classify, teacher, TRAIN.head(3), VALIDATION, QUAD, small)
    with pytest.raises(InputError, match="matches no weight"):
        distill(classify, teacher, TRAIN, VALIDATION, QUAD, Distillation(batch=16, frozen=("heads",)))
    with pytest.raises(InputError, match="every weight is frozen"):
        distill(classify, teacher, TRAIN, VALIDATION, QUAD, Distillation(batch=16, frozen=(".*",)))
    with pytest.raises(InputError, match="one first dimension"):
        Examples((np.zeros((3, 2)),), np.zeros(2, np.int32))
    unlabelled = Examples(TRAIN.inputs)
    with pytest.raises(InputError, match="needs labels"):
        finetune(classify, teacher, unlabelled, VALIDATION)
    with pytest.raises(InputError, match="label_weight needs labels"):
        distill(classify, teacher, unlabelled, VALIDATION, QUAD, Distillation(label_weight=1.0))


def test_a_range_that_the_trained_model_leaves_is_refused(distilled):
    config = {**QUAD, "rule": [*QUAD["rule"][:3], {"op": "matmul", "range": 0.5}]}
    with pytest.raises(ditto.DittoError, match="reached"):
        evaluate(classify, distilled.params, VALIDATION, config, calibration=distilled.calibration)
