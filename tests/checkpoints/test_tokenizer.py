"""Tokenizers of folders and of GGUF files, chat templates, and what ends a text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.checkpoints import gguf_tokenizer
from ditto_spu.checkpoints.chat_template import render
from ditto_spu.checkpoints.tokenizer import open_tokenizer
from ditto_spu.errors import InputError
from ditto_spu.models import own
from tests.checkpoints.files import LLAMA, TEMPLATE, TOKENS, save, save_gguf, torch_weights


def test_a_gguf_file_brings_its_tokenizer(tmp_path: Path) -> None:
    model = ditto.load(save_gguf(tmp_path / "model.gguf", LLAMA, torch_weights(LLAMA), tokenizer=True))
    tokenizer = model.tokenizer
    ids = tokenizer.encode("ab cab 12")
    assert [TOKENS[each] for each in ids] == ["ab", "Ġ", "c", "ab", "Ġ", "1", "2"]
    assert tokenizer.decode([*ids, 2]) == "ab cab 12"
    assert tokenizer.stop == {2}
    chat = tokenizer.chat("ba")
    assert [TOKENS[each] for each in chat][:4] == ["<|im_start|>", "u", "s", "e"]
    assert chat == tokenizer.chat([{"role": "user", "content": "ba"}])
    assert TOKENS[chat[-1]] == "<|im_start|>"
    ids, mask = tokenizer.batch(["abc", "b"], 3)
    assert ids.dtype == mask.dtype == np.int32
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert ids[:, 0].tolist() == [TOKENS.index("ab"), TOKENS.index("b")]
    with pytest.raises(InputError, match="batch takes a list"):
        tokenizer.batch("abc", 3)


def test_a_decoder_without_a_tokenizer_continues_ids(tmp_path: Path) -> None:
    folder = save(tmp_path / "llama", LLAMA, torch_weights(LLAMA))
    text = own.text(ditto.load(folder))
    assert text.tokenizer is None and text.prompt.shape == (1, 4)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read"):
        own.text(ditto.load(folder))


def test_a_folder_brings_its_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    with pytest.raises(InputError, match=r"holds no tokenizer\.json: save the fast tokenizer"):
        open_tokenizer(tmp_path)
    inner = Tokenizer(models.WordLevel({"[PAD]": 0, "red": 1, "blue": 2, "</s>": 3}, unk_token="[PAD]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "tokenizer.json"))
    options = {"eos_token": {"content": "</s>"}, "pad_token": "[PAD]", "chat_template": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
    tokenizer = open_tokenizer(tmp_path)
    assert tokenizer.encode("blue red") == [2, 1]
    assert (tokenizer.stop, tokenizer.padding) == ({3}, 0)
    with pytest.raises(InputError, match="has no chat template"):
        tokenizer.chat("red")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 1]}))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0]['content'] }} {{ eos_token }}")
    tokenizer = open_tokenizer(tmp_path)
    assert tokenizer.stop == {1, 3}
    assert tokenizer.chat("blue")[0] == 2
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        open_tokenizer(tmp_path)


def test_a_template_runs_in_a_sandbox_and_may_refuse() -> None:
    messages = [{"role": "user", "content": "a"}]
    assert render(TEMPLATE, messages, {}) == "<|im_start|>user\na<|im_end|><|im_start|>"
    with pytest.raises(InputError, match="refuses these messages: no systems"):
        render("{{ raise_exception('no systems') }}", messages, {})
    with pytest.raises(InputError, match="refuses these messages"):
        render("{{ ''.__class__.__mro__ }}", messages, {})
    with pytest.raises(InputError, match="a message of a chat has a role and a content"):
        render(TEMPLATE, [{"content": "a"}], {})


def test_families_cut_texts_in_their_own_way(tmp_path: Path) -> None:
    tokens = [*"abc123", "é", "Ġ", "abc", "Ã", "©", "Ã©", "<s>"]
    fields = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["Ã ©", "1 2"],
        "tokenizer.ggml.token_type": [1] * 12 + [3],
        "tokenizer.ggml.bos_token_id": 12,
    }
    fields["tokenizer.ggml.tokens"][6] = "12"
    found = {}
    for cut in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        inner, _, _ = gguf_tokenizer.build(tmp_path, fields | {"tokenizer.ggml.pre": cut})
        found[cut] = inner.encode("abc123").tokens, inner.encode("e\u0301").tokens
    assert found["gpt-2"][0] == ["a", "b", "c", "12", "3"]
    assert found["smollm"][0] == ["a", "b", "c", "1", "2", "3"]
    assert found["llama-bpe"][0] == ["<s>", "abc", "12", "3"]  # the whole word is a token
    assert found["qwen2"] == (["a", "b", "c", "1", "2", "3"], ["Ã©"])


def test_pieces_and_words_of_gguf(tmp_path: Path) -> None:
    pieces = ["<unk>", "<s>", "</s>", "▁", "r", "e", "d", "re", "▁re", "▁red", "<0x21>"]
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -8.0, -1.0, -2.0, -3.0, 0.0],
        "tokenizer.ggml.token_type": [2, 3, 3, *[1] * 7, 6],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    inner, special, stop = gguf_tokenizer.build(tmp_path, fields)
    assert inner.encode("red red!").tokens == ["<s>", "▁red", "▁red", "<0x21>"]
    assert inner.decode(inner.encode("red red!").ids) == "red red!"
    assert (special["bos_token"], stop) == ("<s>", {2})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁red", "dish", "▁,"]
    fields = {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3, 2, 3, 3, 1, 1, 1],
    }
    inner, _, _ = gguf_tokenizer.build(tmp_path, fields)
    assert inner.encode("Reddish, red blue").ids == [2, 4, 5, 6, 4, 1, 3]
    cased = fields | {"tokenizer.ggml.tokens": [*words[:4], "▁Red", "dish", "▁,"]}
    assert gguf_tokenizer.build(tmp_path, cased)[0].encode("Reddish red").ids == [2, 4, 5, 1, 3]
    for kind, cut, message in (
        ("rwkv", "default", "tokenizer of kind 'rwkv'"),
        ("gpt2", "tekken", "cuts texts as 'tekken' does"),
    ):
        wrong = fields | {"tokenizer.ggml.model": kind, "tokenizer.ggml.pre": cut}
        with pytest.raises(InputError, match=message):
            gguf_tokenizer.build(tmp_path, wrong)
