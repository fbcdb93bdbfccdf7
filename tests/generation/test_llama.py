"""The Llama family generates: its cache equals whole passes, tokens equal plaintext, text in, text out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import ditto_spu as ditto
from ditto_spu.cli import app
from ditto_spu.generation.decoder import one_hot
from tests.checkpoints.files import LLAMA, save, save_gguf, torch_weights

IDS = np.array([[3, 7, 1, 9, 4, 2], [11, 2, 3, 44, 5, 6]])
WORDS = 50
SHALLOW = LLAMA | {"num_hidden_layers": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "wide heads, untied": {"head_dim": 12, "tie_word_embeddings": False, "num_hidden_layers": 1},
    "mistral": {"model_type": "mistral", "sliding_window": 3},
    "qwen2": {"model_type": "qwen2"},
}
QUICK = ("wide heads, untied", "mistral")


def scaled(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return weights with which tokens vary and the likeliest one is clear."""
    weights = torch_weights(settings, seed=10)
    return {name: each + 1 if "norm" in name else 2 * each for name, each in weights.items()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_the_cache_equals_whole_passes(tmp_path: Path, name: str) -> None:
    settings = LLAMA | FAMILIES[name]
    model = ditto.load(save(tmp_path, settings, scaled(settings)))
    whole = np.asarray(jax.jit(model.fn)(model.params, IDS, np.ones_like(IDS)))
    prefill = jax.jit(model.decoder.prefill, static_argnames="length")
    logits, cache = prefill(model.params, one_hot(IDS[:, :3], WORDS), length=8)
    np.testing.assert_allclose(logits, whole[:, 2], atol=1e-4)
    step = jax.jit(model.decoder.step)
    logits, cache = step(model.params, cache, one_hot(IDS[:, 3:4], WORDS), 3)
    np.testing.assert_allclose(logits, whole[:, 3], atol=1e-4)
    # A step takes several tokens, too.
    logits, _ = step(model.params, cache, one_hot(IDS[:, 4:], WORDS), 4)
    np.testing.assert_allclose(logits, whole[:, 5], atol=1e-4)
    assert cache[0][0].shape == (2, 8, 2, settings.get("head_dim", 8))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["client", "secret"])
def test_greedy_tokens_equal_plaintext(tmp_path: Path, mode: str) -> None:
    model = ditto.load(save(tmp_path, SHALLOW, scaled(SHALLOW)))
    ids = IDS
    for _ in range(3):
        logits = np.asarray(model.fn(model.params, ids, np.ones_like(ids)))[:, -1]
        ids = np.concatenate([ids, np.argmax(logits, axis=-1)[:, None]], axis=1)
        first, second = np.sort(logits, axis=-1)[:, :-3:-1].T
        assert np.min(first - second) > 0.05  # fixed point may shift logits by less than this
    made = ditto.generate(model.decoder, model.params, IDS, steps=3, next_token=mode)
    assert made.ids.tolist() == ids.tolist()
    assert all("spu" not in token.report.by_kind() for token in made.tokens)


def test_the_command_line_takes_text_and_gives_text(tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "model.gguf", SHALLOW, scaled(SHALLOW), tokenizer=True)
    arguments = ["generate", "llama", "--weights", str(path), "--prompt", "ab", "--plain", "--steps", "2"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    model = ditto.load(path)
    ids = start = model.tokenizer.encode("ab")
    for _ in range(2):
        logits = np.asarray(model.fn(model.params, np.array([ids]), np.ones((1, len(ids)), int)))[0, -1]
        assert np.diff(np.sort(logits)[-2:]) > 0.05
        ids = [*ids, int(np.argmax(logits))]
    printed = json.loads(done.output[done.output.index("{") :])
    assert printed["ids"] == [ids]
    assert printed["texts"] == [model.tokenizer.decode(ids[len(start) :])]
