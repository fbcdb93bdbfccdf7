"""The MPCFormer baseline as far as it runs without torch: its function, refusals, counts and the table."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from rich.console import Console

from bench import __main__ as command
from bench.mpcformer import ANSWER, side
from bench.mpcformer.encoder import Plain, encode
from bench.rows import table
from ditto_spu.errors import InputError, PartyError
from ditto_spu.models import bert

PATHS = (
    *(f"attention/self/{name}" for name in ("query", "key", "value")),
    "attention/output/dense",
    "intermediate/dense",
    "output/dense",
)


class Exact(Plain):
    """The functions of BERT itself."""

    def gelu(self, x):
        return np.asarray(jax.nn.gelu(x, approximate=False))

    def softmax(self, x):
        return np.asarray(jax.nn.softmax(x))


def test_with_berts_own_functions_the_encoder_is_hugging_faces():
    program = bert.encoder(layers=2, sequence=6)
    params, hidden = program.args
    weights = flatten_dict(params, sep="/")
    assert {f"layer/1/{path}/kernel" for path in PATHS} < set(weights)
    (expected,) = program.fn(params, hidden)
    assert np.allclose(encode(weights, hidden[0], Exact()), expected, atol=2e-5)
    assert np.max(np.abs(encode(weights, hidden[0], Plain()) - expected)) > 0.1


def test_quad_and_2quad():
    assert Plain().gelu(np.array([-2.0, 0.0, 1.0])).tolist() == [0.5, 0.5, 0.875]
    assert Plain().softmax(np.array([[-5.0, 0.0], [-4.0, -2.0]])).tolist() == [[0.0, 1.0], [0.1, 0.9]]


def test_a_missing_environment_names_its_make_target(monkeypatch, tmp_path):
    monkeypatch.setattr(side, "ENVIRONMENT", tmp_path)
    with pytest.raises(InputError, match="run `make bench-mpcformer-env` first"):
        side.check("bert-base")
    (tmp_path / ".ready").touch()
    side.check("bert-base")


@pytest.mark.parametrize(
    ("case", "baseline", "message"),
    [
        ("minilm", ["mpcformer"], "the mpcformer baseline runs bert-base-layer and bert-base, not 'minilm'"),
        ("bert-base", ["puma", "abc"], "there is no baseline 'abc': choose puma, spu, mpcformer or none"),
    ],
)
def test_bad_baselines_are_refused_before_anything_runs(case, baseline, message, capsys):
    with pytest.raises(SystemExit) as exited:
        command.main([case], ["ditto"], ["whole"], baseline, network=[])
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_every_side_of_a_case_is_measured_together(monkeypatch, tmp_path, capsys):
    (tmp_path / ".ready").touch()
    monkeypatch.setattr(side, "ENVIRONMENT", tmp_path)
    asked = []
    monkeypatch.setattr(command, "measure", lambda case, sides, *_: asked.append((case, sides)) or [])
    command.main(["bert-base-layer"], ["ditto"], ["whole"], ["puma", "mpcformer", "none"], network=[])
    command.main(["bert-tiny"], ["ditto"], ["whole"], ["none"], network=[])
    assert asked == [("bert-base-layer", ["ditto", "puma", "mpcformer"]), ("bert-tiny", ["ditto"])]


def test_traffic_counts_openings_online_and_the_dealer_offline():
    def party(opened, asked, dealt):
        kinds = ("opened", "asked", "dealt")
        return {
            "bytes": dict(zip(kinds, (100 * opened, 100 * asked, 100 * dealt), strict=True)),
            "messages": dict(zip(kinds, (opened, asked, dealt), strict=True)),
        }

    assert side.traffic([party(5, 6, 9), party(5, 0, 0)]) == {
        "bytes_sent_per_party": [1100, 500, 900],
        "offline_bytes_sent_per_party": [600, 0, 900],
        "messages_per_party": [11, 5, 9],
        "rounds": 3,
    }


def test_a_party_that_dies_is_named():
    dead = SimpleNamespace(stdout=iter(["a warning\n"]), wait=lambda: 3)
    with pytest.raises(PartyError, match="party 1 of the mpcformer baseline ended with exit code 3"):
        side.Mpcformer._answer(None, 1, dead)
    alive = SimpleNamespace(stdout=iter(["a warning\n", ANSWER + '{"seconds": 1.5}\n']))
    assert side.Mpcformer._answer(None, 0, alive) == {"seconds": 1.5}


def row(config, seconds, sent, case="bert-base", **more):
    return {
        "case": case,
        "config": config,
        "seconds": seconds,
        "bytes_sent_per_party": sent,
        "messages_per_party": [1, 2, 3],
        "rounds": None,
        "max_abs_error": 0.5,
        "mean_abs_error": 0.25,
        "cosine": 1.0,
        "peak_memory_bytes": 10**9,
        **more,
    }


def shown(rows):
    console = Console(width=250, no_color=True)
    with console.capture() as captured:
        console.print(table(rows))
    return captured.get()


def test_the_table_has_a_ratio_for_each_baseline_that_was_measured():
    ours = row("ditto", 2.0, [1e6, 1e6, 4e6])
    puma = row("puma", 30.0, [6e6, 6e6, 6e6])
    mpcformer = row("mpcformer", 9.0, [9e6, 9e6, 3e6], note="counts of [party 0, party 1, dealer]")
    text = shown([ours, puma, mpcformer])
    assert text.count("PUMA / ours") == text.count("MPCFormer / ours") == 4  # two of them predicted
    lines = [line.split() for line in text.splitlines() if line.startswith(" bert-base ")]
    cells = {line[1]: line[2:] for line in lines[:3]}
    assert {line[1]: len(line) for line in lines[3:]} == {"ditto": 8, "puma": 4, "mpcformer": 4}
    assert cells["ditto"][:6] == ["2.000", "15.0", "4.5", "2.00", "3.0", "3.5"]
    assert cells["puma"][:2] == ["30.000", "6.00"]
    assert cells["mpcformer"][:2] == ["9.000", "7.00"]
    assert "mpcformer: counts of [party 0, party 1, dealer]" in text


def test_without_a_baseline_of_the_case_there_is_no_ratio():
    assert "/ ours" not in shown([row("ditto", 2.0, [1, 1, 1])])
    text = shown([row("ditto", 2.0, [0, 0, 0]), row("puma", 4.0, [3e6, 3e6, 3e6])])
    assert next(line for line in text.splitlines() if " ditto " in line).split()[2:6] == [
        "2.000",
        "2.0",
        "0.00",
        "-",
    ]
    other = shown([row("ditto", 2.0, [1, 1, 1]), row("puma", 4.0, [1, 1, 1], case="minilm")])
    assert next(line for line in other.splitlines() if " ditto " in line).split()[2:4] == ["2.000", "0.00"]
