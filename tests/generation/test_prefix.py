"""A public prefix: its cache is made in plaintext once, texts continue it, and it costs no rows under MPC."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import ditto_spu as ditto
from ditto_spu.cli import app
from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import one_hot
from ditto_spu.generation.programs import prefix_cache
from tests.checkpoints.files import LLAMA, TOKENS, save_gguf, torch_weights
from tests.generation.test_llama import scaled

PREFIX = [5, 6, 7, 8, 2]
IDS = np.array([[3, 7, 1], [11, 2, 44]])
SHALLOW = LLAMA | {"num_hidden_layers": 1}
STEPS = 3


def text_of(settings: dict[str, Any], tmp_path: Path, tokenizer: bool = False) -> ditto.LoadedModel:
    return ditto.load(save_gguf(tmp_path / "model.gguf", settings, scaled(settings), tokenizer=tokenizer))


@pytest.mark.parametrize("window", [None, 4])
def test_texts_behind_a_prefix_equal_whole_passes(tmp_path: Path, window: int | None) -> None:
    settings = {**LLAMA, **({} if window is None else {"model_type": "mistral", "sliding_window": window})}
    model = ditto.load(save_gguf(tmp_path / "m.gguf", LLAMA, torch_weights(LLAMA)))
    if window is not None:
        from ditto_spu.architectures.table import architecture
        from ditto_spu.checkpoints.stored import Settings

        made = architecture(Settings(settings, tmp_path))[1].model(Settings(settings, tmp_path))
        model = dataclasses.replace(model, fn=made.fn, decoder=made.decoder)
    ids = np.concatenate([np.tile(PREFIX, (2, 1)), IDS, [[4], [9]]], axis=1)
    whole = np.asarray(jax.jit(model.fn)(model.params, ids, np.ones_like(ids)))
    decoder = model.decoder
    assert decoder is not None and decoder.follow is not None
    cache = prefix_cache(decoder, model.params, PREFIX)
    follow = jax.jit(decoder.follow, static_argnames="length")
    logits, after = follow(model.params, cache, one_hot(IDS, 50), length=12)
    np.testing.assert_allclose(logits, whole[:, 7], atol=1e-4)
    logits, _ = jax.jit(decoder.step)(model.params, after, one_hot(ids[:, 8:], 50), 8)
    np.testing.assert_allclose(logits, whole[:, 8], atol=1e-4)


@pytest.mark.parametrize("mode", ["client", pytest.param("secret", marks=pytest.mark.slow)])
def test_greedy_tokens_behind_a_prefix_equal_plaintext(tmp_path: Path, mode: str) -> None:
    model = text_of(SHALLOW, tmp_path)
    assert model.decoder is not None
    ids = np.concatenate([np.tile(PREFIX, (2, 1)), IDS], axis=1)
    for _ in range(STEPS):
        logits = np.asarray(model.fn(model.params, ids, np.ones_like(ids)))[:, -1]
        ids = np.concatenate([ids, np.argmax(logits, axis=-1)[:, None]], axis=1)
        first, second = np.sort(logits, axis=-1)[:, :-3:-1].T
        assert np.min(first - second) > 0.05  # fixed point may shift logits by less than this
    generator = ditto.Generator(model.decoder, model.params, length=11, prefix=PREFIX, next_token=mode)
    made = generator.generate(IDS, STEPS)
    assert made.ids.tolist() == ids[:, 5:].tolist()
    assert [each.position for each in made.tokens] == [8, 9, 10]
    # Weights are shared once for both programs, and the prefix is among what is held.
    held = generator._prefill._held
    assert generator._step._held._parts is held._parts
    assert set(held.arguments) == {"params", "prefix"} and set(generator._step._held.arguments) == {"params"}
    assert generator.generate(IDS[::-1], 1).ids.tolist() == ids[::-1, 5:9].tolist()


@pytest.mark.slow
def test_the_prefix_costs_no_rows(tmp_path: Path) -> None:
    """The tokens of the prefix pass no layer: only the attention to them costs, and no look-up."""
    model = text_of(SHALLOW, tmp_path)
    assert model.decoder is not None
    long, sent = np.tile(PREFIX, 3), []
    for prefix in (long[:1], long):
        generator = ditto.Generator(model.decoder, model.params, length=32, prefix=prefix)
        (token,) = generator.generate(IDS, 1).tokens
        sent.append(sum(token.report.bytes_sent_per_party))
    bare = ditto.generate(model.decoder, model.params, np.tile([*long, 3, 7, 1], (2, 1)), steps=1)
    assert sent[1] - sent[0] < (sum(bare.tokens[0].report.bytes_sent_per_party) - sent[0]) / 2


def test_bad_prefixes_are_refused(tmp_path: Path) -> None:
    model = text_of(SHALLOW, tmp_path)
    assert model.decoder is not None
    generator = ditto.Generator(model.decoder, model.params, length=8, prefix=PREFIX)
    with pytest.raises(InputError, match="5 tokens of prefix, 3 tokens of prompt and 1 steps"):
        generator.stream(IDS, 1)
    with pytest.raises(InputError, match="token ids from 50 to 50"):
        ditto.Generator(model.decoder, model.params, length=8, prefix=[50])
    with pytest.raises(InputError, match="a prefix of 2 texts"):
        ditto.Generator(model.decoder, model.params, length=8, prefix=IDS)
    with pytest.raises(InputError, match="takes no prefix: give it a function `follow`"):
        bare = dataclasses.replace(model.decoder, follow=None)
        ditto.Generator(bare, model.params, length=8, prefix=PREFIX)
    with pytest.raises(InputError, match="'weights' is not held"):
        generator._step.hold_with(generator._prefill, "weights")


def test_a_prefix_of_text_ends_where_every_users_text_begins(tmp_path: Path) -> None:
    tokenizer = text_of(SHALLOW, tmp_path, tokenizer=True).tokenizer
    prefix, prompt = tokenizer.behind("ab", "ba")
    chat = tokenizer.chat([{"role": "system", "content": "ab"}, {"role": "user", "content": "ba"}])
    assert prefix + prompt == chat
    assert tokenizer.behind("ab", "c 1")[0] == prefix
    plain = dataclasses.replace(tokenizer, template=None)
    prefix, prompt = plain.behind("ab", "ba")
    assert "".join(TOKENS[each] for each in prefix + prompt) == "abba"
    with pytest.raises(InputError, match="both need at least one token"):
        plain.behind("", "ba")


def test_the_command_line_takes_a_prefix(tmp_path: Path) -> None:
    model = text_of(SHALLOW, tmp_path, tokenizer=True)
    arguments = ["generate", str(model.source), "--prompt", "ab", "--plain", "--steps", "1", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--prefix", "cab"])
    assert done.exit_code == 0, done.output
    prefix, prompt = dataclasses.replace(model.tokenizer, template=None).behind("cab", "ab")
    ids = np.array([prefix + prompt])
    logits = np.asarray(model.fn(model.params, ids, np.ones_like(ids)))[0, -1]
    assert np.diff(np.sort(logits)[-2:]) > 0.05
    printed = json.loads(done.output[done.output.index("{") :])
    assert printed["ids"] == [[*prompt, int(np.argmax(logits))]]
    assert printed["tokens"][0]["position"] == ids.shape[1]
    failed = CliRunner().invoke(app, ["generate", "llama-tiny", "--prefix", "a"])
    assert failed.exit_code == 2 and "no list of token ids" in failed.output + (failed.stderr or "")
