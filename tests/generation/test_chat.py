"""`ditto chat`: turns are remembered, answers equal plaintext, and what cannot be asked is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ditto_spu as ditto
from ditto_spu.cli import app
from ditto_spu.cli.chat import Talk
from ditto_spu.errors import InputError
from ditto_spu.models import Text
from tests.checkpoints.files import LLAMA, save, save_gguf, torch_weights
from tests.gateway.test_gateway import table, tokenizer
from tests.generation import toy


@pytest.mark.parametrize("public", [False, True])
def test_each_turn_continues_the_one_before(public: bool) -> None:
    known = tokenizer()
    text = Text(toy.decoder(), table(), np.zeros((1, 1), np.int64), known)
    opening = known.opening("be kind") if public else []
    generator = ditto.Generator(toy.decoder(), table(), length=110, prefix=opening or None)
    talk = Talk(text, generator.conversation(), 110, "be kind", opening)
    messages = [{"role": "system", "content": "be kind"}]
    for question in ("hello", "more"):
        messages.append({"role": "user", "content": question})
        answer = "".join(talk.answer(question, 5))
        assert answer == known.decode(toy.greedy(table(), known.chat(messages), 5))
        assert talk.cost.startswith("[5 tokens in ") and talk.cost.endswith(" rounds]")
        messages.append({"role": "assistant", "content": answer})
    with pytest.raises(InputError, match="there is room for 110: start over with /new"):
        "".join(talk.answer("a" * 99, 5))
    assert "".join(talk.answer("a", 1))  # the refused question is forgotten


def test_the_command_line_names_what_does_not_talk(tmp_path: Path) -> None:
    folder = save(tmp_path / "llama", LLAMA, torch_weights(LLAMA))
    for arguments, message in (
        (["bert-tiny"], "generates no text"),
        (["gpt2-tiny"], "has no chat template"),
        ([str(folder)], "has no chat template"),
        (["gpt2-tiny", "--top-p", "0"], "top_p is 0"),
        (["gpt2-tiny", "--drafts", "-1"], "drafts of -1 tokens"),
    ):
        failed = CliRunner().invoke(app, ["chat", *arguments])
        assert failed.exit_code == 2 and message in failed.output + (failed.stderr or "")


def test_the_gateway_names_what_it_does_not_serve(tmp_path: Path) -> None:
    folder = save(tmp_path / "llama", LLAMA, torch_weights(LLAMA))
    for arguments, message in (
        (["nothing"], "there is no model 'nothing'"),
        (["gpt2-tiny"], "has no tokenizer of its own"),
        ([str(folder)], "holds no tokenizer"),
        ([str(folder), "--cluster", "nowhere.toml"], "nowhere.toml"),
    ):
        failed = CliRunner().invoke(app, ["gateway", "--model", *arguments])
        assert failed.exit_code == 2 and message in failed.output + (failed.stderr or "")


@pytest.mark.slow
def test_a_checkpoint_talks_on_the_command_line(tmp_path: Path) -> None:
    settings = LLAMA | {"num_hidden_layers": 1, "max_position_embeddings": 100}
    path = save_gguf(tmp_path / "model.gguf", settings, torch_weights(settings), tokenizer=True)
    done = CliRunner().invoke(
        app, ["chat", str(path), "--steps", "3"], input="ab\n/new\n\nab\n" + "ab" * 99 + "\n/quit\n"
    )
    assert done.exit_code == 0, done.output
    answers = [each for each in done.stdout.splitlines() if each]
    assert len(answers) == 2 and answers[0] == answers[1]
    assert done.stderr.count(" rounds]") == 2 and "start over with /new" in done.stderr
