"""Calibrations of decoders: tokens stay right, massive values are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ditto_spu as ditto
from ditto_spu.calibration.calibration import Calibration, Observation, load_calibration
from ditto_spu.calibration.summary import summary
from ditto_spu.cli import app
from ditto_spu.errors import InputError
from ditto_spu.generation.ranges import calibrate_decoder
from ditto_spu.models.prose import prose_ids
from ditto_spu.rules.rule import INPUT
from tests.checkpoints.files import LLAMA, save_gguf
from tests.generation.test_llama import scaled

PREFIX = [5, 6, 7, 8, 2]
IDS = np.array([[3, 7, 1], [11, 2, 44]])
SHALLOW = LLAMA | {"num_hidden_layers": 1}


def shallow(tmp_path: Path, *, massive: bool = False) -> ditto.LoadedModel:
    weights = scaled(SHALLOW)
    if massive:  # one token has a large row, as first tokens of trained decoders get
        weights["model.embed_tokens.weight"][PREFIX[0], 3] = 20000
    return ditto.load(save_gguf(tmp_path / "model.gguf", SHALLOW, weights, tokenizer=True))


def greedy(model: ditto.LoadedModel, ids: np.ndarray, steps: int) -> list[list[int]]:
    """Continue texts in float."""
    for _ in range(steps):
        logits = np.asarray(model.fn(model.params, ids, np.ones_like(ids)))[:, -1]
        ids = np.concatenate([ids, np.argmax(logits, axis=-1)[:, None]], axis=1)
        first, second = np.sort(logits, axis=-1)[:, :-3:-1].T
        assert np.min(first - second) > 0.05  # fixed point may shift logits by less than this
    return ids.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("massive", [False, True])
def test_a_calibration_behind_a_prefix_keeps_tokens_right(tmp_path: Path, massive: bool) -> None:
    model = shallow(tmp_path, massive=massive)
    assert model.decoder is not None
    texts = np.random.default_rng(0).integers(9, 50, (4, 6))
    known = calibrate_decoder(model.decoder, model.params, texts, prefix=PREFIX)
    assert not known.massive and len(known.arguments) == 2
    # The values at the prefix do not count, whatever their size.
    look_up = known.at("model/embed_tokens", "matmul") or known.at("model/embed_tokens", "embedding")
    assert look_up is not None and look_up.largest < 100
    expected = greedy(model, np.concatenate([np.tile(PREFIX, (2, 1)), IDS], axis=1), 2)
    options = {"length": 11, "prefix": PREFIX}
    generator = ditto.Generator(model.decoder, model.params, calibration=known, **options)
    assert generator.generate(IDS, 2).ids.tolist() == [row[5:] for row in expected]


@pytest.mark.slow
def test_massive_values_without_a_prefix_leave_tokens_right(tmp_path: Path) -> None:
    model = shallow(tmp_path, massive=True)
    assert model.decoder is not None
    first = np.full((4, 1), PREFIX[0])
    texts = np.concatenate([first, np.random.default_rng(0).integers(9, 50, (4, 6))], axis=1)
    known = calibrate_decoder(model.decoder, model.params, texts)
    ids = np.concatenate([first[:2], IDS], axis=1)
    expected = greedy(model, ids, 2)
    made = ditto.generate(model.decoder, model.params, ids, steps=2, calibration=known)
    assert made.ids.tolist() == expected


def test_massive_values_are_named() -> None:
    usual = np.random.default_rng(0).normal(0, 3, 5000).astype(np.float32)
    outlier = np.append(usual, np.float32(20000))
    rows = [
        Observation(path, "matmul", None, "", (), summary(values))
        for path, values in (("layers/0/down_proj", usual), ("layers/1/down_proj", outlier))
    ]
    rows.append(Observation("params/table", INPUT, None, "", (), summary(outlier)))
    known = Calibration("decoder", 1, (), tuple(rows))
    assert [each.path for each in known.massive] == ["layers/1/down_proj"]
    said = " ".join(str(known).split())
    assert "1 operations have massive values, first matmul at 'layers/1/down_proj' (2e+04; 99 %" in said
    assert "a public prefix leaves them out" in said
    assert not Calibration("decoder", 1, (), tuple(rows[:1])).massive


def test_texts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = shallow(tmp_path)
    assert model.decoder is not None
    for texts, prefix in ((np.ones((1, 1), int), None), (np.ones((1, 30), int), [1, 2, 3])):
        with pytest.raises(InputError, match="give more than 1, and at most 32 together"):
            calibrate_decoder(model.decoder, model.params, texts, prefix=prefix)
    with pytest.raises(InputError, match="no docstring of Python's standard library has 1000000 tokens"):
        prose_ids(model.tokenizer, 1_000_000)


def test_the_command_line_calibrates_a_decoder(tmp_path: Path) -> None:
    model = shallow(tmp_path)
    out = tmp_path / "ranges.json"
    arguments = ["calibrate", str(model.source), "--out", str(out), "--prefix", "ab", "--calls", "2"]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 2 and "add --generate" in failed.output + (failed.stderr or "")
    for name, message in (("bert-tiny", "generates no text"), ("llama-tiny", "no tokenizer for --prefix")):
        failed = CliRunner().invoke(app, ["calibrate", name, *arguments[2:], "--generate"])
        assert failed.exit_code == 2 and message in failed.output + (failed.stderr or "")
    done = CliRunner().invoke(app, [*arguments, "--generate"])
    assert done.exit_code == 0, done.output
    assert load_calibration(out).batches == 4
