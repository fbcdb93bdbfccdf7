"""Tests generation at a cluster's parties: tokens equal plaintext, and chats end by themselves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import ditto_spu as ditto
from ditto_spu import connect
from ditto_spu.cli import app
from ditto_spu.errors import ClusterError, DittoError, InputError, PartyError
from ditto_spu.generation.decoder import one_hot
from ditto_spu.models import gpt2, named_model
from tests.checkpoints.files import LLAMA, save, torch_weights

IDS = np.array([[3, 7, 1, 9, 4, 2], [11, 2, 3, 44, 5, 6]])
STEPS = 3
ROOM = {"length": IDS.shape[1] + STEPS}


def clear(params: Any) -> Any:
    """Return a tiny GPT-2's weights with heavier tables, so that its tokens vary."""
    for name, factor in (("wte", 20), ("wpe", 100)):
        params["transformer"][name]["embedding"] = params["transformer"][name]["embedding"] * factor
    return params


def shapes(params: Any) -> Any:
    return jax.tree_util.tree_map(lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype), params)


def whole_pass(decoder: Any, params: Any, ids: Any) -> Any:
    """Return the logits after a text, in plaintext."""
    prefill = jax.jit(decoder.prefill, static_argnames="length")
    return np.asarray(prefill(params, one_hot(ids, decoder.vocabulary), length=16)[0])


@pytest.fixture(scope="module")
def text() -> Any:
    decoder, params = gpt2.initialised(seed=35, **(gpt2.TINY | {"n_layer": 1}))
    return decoder, clear(params)


@pytest.fixture(scope="module")
def plain(text: Any) -> Any:
    return greedy(text, IDS)


def greedy(text: Any, ids: Any) -> Any:
    """Decode greedily in plaintext."""
    decoder, params = text
    for _ in range(STEPS):
        logits = whole_pass(decoder, params, ids)
        assert np.min(np.diff(np.sort(logits)[:, -2:])) > 0.05  # fixed point may shift logits by less
        ids = np.concatenate([ids, np.argmax(logits, axis=-1)[:, None]], axis=1)
    return ids.tolist()


def kept_bytes(trial: Any) -> list[int]:
    return [server._shared.kept_bytes.used for server in trial.servers]


def test_tokens_equal_plaintext_and_chats_take_turns(parties: Any, text: Any, plain: Any) -> None:
    with connect(parties.file, "alice") as client:
        generator = ditto.Generator(*text, cluster=client, **ROOM)
        made = generator.generate(IDS, STEPS)
        assert made.ids.tolist() == plain
        assert len(client.weights()) == 1  # one upload serves the prompt and the steps
        one, two = generator.stream(IDS, STEPS), generator.stream(IDS[::-1], STEPS)  # chats take turns
        told = [(next(one).ids.tolist(), next(two).ids.tolist()) for _ in range(STEPS)]
    for step, (mine, theirs) in enumerate(told):
        wanted = [row[IDS.shape[1] + step] for row in plain]
        assert mine == wanted and theirs == wanted[::-1]


@pytest.mark.slow
def test_tokens_chosen_in_secret_behind_a_prefix_on_weights_of_another_client(
    parties: Any, text: Any, eventually: Any
) -> None:
    decoder, params = text
    prefix = [5, 6]
    options = {"next_token": "secret", "length": ROOM["length"] + 2, "prefix": prefix}
    plain = greedy(text, np.concatenate([np.tile(prefix, (2, 1)), IDS], axis=1))
    with connect(parties.file, "alice") as owner, connect(parties.file, "bob") as user:
        mine = ditto.Generator(decoder, params, cluster=owner, **options)
        mine.upload("gpt2", prompts=(IDS.shape[1],), batch=2, users=["bob"])
        (held,) = owner.weights()
        assert held.complete and len(held.plans) == 2
        guest = ditto.Generator(decoder, shapes(params), cluster=user, weights="alice/gpt2", **options)
        assert guest.generate(IDS, STEPS).ids.tolist() == [row[2:] for row in plain]
        hot = np.zeros((2, 8, decoder.vocabulary), np.float32)  # prompts are padded to 8 tokens
        with pytest.raises(ClusterError, match="has to stay in shares"):
            opened = {"one_hot": hot, "rows": np.zeros((2, 1), np.int32), "length": options["length"]}
            user.run(guest._prefill, weights="alice/gpt2", **opened)
        with pytest.raises(ClusterError, match="serve plan"):
            guest.generate(IDS[:1], 1)
        owner.drop("gpt2")
        with pytest.raises(ClusterError, match="no weights 'alice/gpt2'"):
            guest.generate(IDS, 1)
    eventually(lambda: kept_bytes(parties) == [0] * 3)


def test_what_does_not_fit_a_cluster_is_refused(parties: Any, text: Any) -> None:
    with connect(parties.file, "alice") as client:
        for options, reason in (
            ({"cluster": client, "checked": True}, "for simulation"),
            ({"cluster": client, "seed": 1}, "for simulation"),
            ({"weights": "alice/gpt2"}, "give its client"),
        ):
            with pytest.raises(InputError, match=reason):
                ditto.Generator(*text, **ROOM, **options)
        with pytest.raises(InputError, match="lengths of prompts"):
            ditto.Generator(*text, cluster=client, **ROOM).upload("gpt2", prompts=())
    with pytest.raises(InputError, match="goes to a cluster"):
        ditto.Generator(*text, **ROOM).upload("gpt2", prompts=(6,))


def test_the_command_line_generates_at_a_cluster(parties: Any) -> None:
    prompt = ["generate", "gpt2-tiny", "--ids", "3,7,1", "--steps", "1", "--config", "ditto", "--json"]
    done = CliRunner().invoke(app, [*prompt, "--cluster", str(parties.file), "--client", "alice"])
    assert done.exit_code == 0, done.output
    model = named_model("gpt2-tiny").text(None)
    logits = whole_pass(model.decoder, model.params, np.array([[3, 7, 1]]))
    printed = json.loads(done.output[done.output.index("{") :])
    assert printed["ids"] == [[3, 7, 1, int(np.argmax(logits))]] and printed["tokens"][0]["rounds"] > 50
    failed = CliRunner().invoke(app, [*prompt, "--held", "alice/gpt2"])
    assert failed.exit_code == 2 and "are for --cluster" in failed.output + (failed.stderr or "")


# This file is also a program, which a test kills.
def endless(file: str) -> None:
    """Generate as bob, until somebody kills this process."""
    decoder, params = gpt2.initialised(seed=35, **(gpt2.TINY | {"n_layer": 1}))
    with connect(file, "bob") as client:
        generator = ditto.Generator(decoder, clear(params), cluster=client, **ROOM)
        while True:
            for token in generator.stream(IDS, STEPS):
                print(token.ids.tolist(), flush=True)


@pytest.mark.slow
def test_four_chats_a_killed_client_and_a_killed_party(trial: Any, text: Any, plain: Any) -> None:
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nsessions = 8\n")
    trial.start(0, 1, 2)
    bob = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.test_generation", str(trial.file)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    clients = [connect(trial.file, "alice") for _ in range(3)]
    generators = [ditto.Generator(*text, cluster=each, **ROOM) for each in clients]
    try:
        with ThreadPoolExecutor(3) as pool:
            chats = [pool.submit(each.generate, IDS, STEPS) for each in generators]
            assert bob.stdout is not None and bob.stdout.readline()
            bob.kill()
            assert [each.result().ids.tolist() for each in chats] == [plain] * 3
            trial.wait_for(0, "session over")

            streams = [each.stream(IDS, STEPS) for each in generators]
            for each in streams:
                next(each)
            trial.signal(1, signal.SIGKILL)
            for each in streams:  # all chats had party 1
                with pytest.raises(DittoError, match=r"party|session"):
                    next(each)
            with pytest.raises(PartyError, match="party 1"):
                generators[0].generate(IDS, 1)
            trial.start(1)
            chats = [pool.submit(each.generate, IDS, STEPS) for each in generators]
            assert [each.result().ids.tolist() for each in chats] == [plain] * 3
    finally:
        bob.kill()
        bob.communicate()
        for each in clients:
            each.close()
    trial.wait_for(0, "session over", 2)
    assert not re.search(r"\[\d+, \d+\]", trial.log(0).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["client", "secret"])
def test_llama_on_three_processes(trial: Any, tmp_path: Path, mode: str) -> None:
    weights = torch_weights(LLAMA, seed=10)
    weights = {name: each + 1 if "norm" in name else 2 * each for name, each in weights.items()}
    model = ditto.load(save(tmp_path, LLAMA, weights))
    trial.start(0, 1, 2)
    options = {"next_token": mode, "length": 9}
    with connect(trial.file, "alice") as client:
        there = ditto.Generator(model.decoder, model.params, cluster=client, **options).generate(IDS, 3)
    here = ditto.Generator(model.decoder, model.params, **options).generate(IDS, 3)
    assert there.ids.tolist() == here.ids.tolist()
    assert [each.report.rounds > 100 for each in there.tokens] == [True] * 3


if __name__ == "__main__":
    endless(sys.argv[1])
