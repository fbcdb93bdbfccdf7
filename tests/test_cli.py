"""The command line: output of each command, as table and as JSON; mistakes give one line and exit code 2."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ditto_kernels.values.formats import Fxp
from ditto_spu.cli import app
from ditto_spu.compare.table import PLAINTEXT, PUMA, Comparison, ComparisonRow
from ditto_spu.models import MODELS
from ditto_spu.rules.load import configurations, load_config


def ditto(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@dataclass(frozen=True)
class Report:
    seconds: float


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--network", "lam"), "did you mean 'lan'"),
        (("--network", "wan", "--checked"), "leave out --checked"),
        (("--network", "wan", "--cluster", "c.toml"), "parties of its own"),
    ],
)
def test_a_network_that_cannot_be_is_refused_first(arguments, reason):
    result = ditto("run", "gelu", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace ditto_spu.api by a recorder, because these tests are about the command line alone."""
    recorded: list[tuple[Any, ...]] = []

    class Function:
        def run(self, *args: Any, material: Any = None) -> SimpleNamespace:
            recorded.append(material)
            return SimpleNamespace(report=Report(1.5))

        def precompute(self, *args: Any, folder: Any = None) -> SimpleNamespace:
            return SimpleNamespace(bytes=2_500_000, seconds=0.25, folder=folder)

        def lower(self, *args: Any) -> SimpleNamespace:
            return SimpleNamespace(as_text=lambda stage: f"the {stage} text [not markup]")

        def compare(self, *args: Any, configs: tuple[str, ...], puma: bool) -> Comparison:
            recorded.append((configs, puma))
            rows = [ComparisonRow(config=PLAINTEXT, seconds=0.1), ComparisonRow(config=PUMA, seconds=9.0)]
            return Comparison((*rows, *(ComparisonRow(config=name, seconds=1.0) for name in configs)))

    def secure(
        fn: Any, *, config: Any, public: tuple[str, ...], owner: dict[str, str], **options: Any
    ) -> Function:
        recorded.append((fn.__name__, config.name, public, options))
        return Function()

    api = ModuleType("ditto_spu.api")
    api.secure = secure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ditto_spu.api", api)
    return recorded


def test_models() -> None:
    assert all(name in ditto("models").stdout for name in MODELS)
    rows = json.loads(ditto("models", "--json").stdout)
    assert [row["name"] for row in rows] == list(MODELS)


def test_cost_of_a_model() -> None:
    (row,) = json.loads(ditto("models", "--cost", "linen-tiny", "--json").stdout)
    assert row["parameters"] == MODELS["linen-tiny"].parameters
    assert row["rounds"] > 0 and row["MB of the busiest party"] > 0 and row["steps on SPU, not counted"] == 0
    assert ditto("models", "--cost", "linen").exit_code == 2


def test_weights_that_are_not_there_get_one_line(tmp_path: Path) -> None:
    result = ditto("run", "roberta", "--weights", str(tmp_path / "none"))
    assert result.exit_code == 2 and "there is no folder" in result.output


def test_configs() -> None:
    assert all(name in ditto("configs").stdout for name in configurations())
    rows = json.loads(ditto("configs", "--json").stdout)
    assert {row["name"]: row["default"] for row in rows}["ditto-paper"] == "fxp32.8"


def test_run(calls: list[Any]) -> None:
    result = ditto("run", "gelu", "--config", "uniform64", "--checked", "--json")
    assert json.loads(result.stdout) == {"seconds": 1.5}
    assert calls == [("gelu", "uniform64", (), {"checked": True, "masked": False, "calibration": None}), None]
    assert "1.5" in ditto("run", "gelu").stdout


def test_run_from_material(calls: list[Any], tmp_path: Path) -> None:
    ditto("run", "gelu", "--masked", "--ahead")
    assert calls[0][-1]["masked"] and calls[1].seconds == 0.25
    result = ditto("run", "gelu", "--material", str(tmp_path))
    assert result.exit_code == 2 and "there is no material in" in result.stderr


def test_precompute(calls: list[Any], tmp_path: Path) -> None:
    result = ditto("precompute", "gelu", str(tmp_path / "one"), "--masked")
    assert "2.5 MB dealt in 0.25 s" in result.stdout
    assert calls == [("gelu", "auto", (), {"masked": True})]


def test_compare(calls: list[Any]) -> None:
    result = ditto("compare", "gelu", "--config", "ditto", "--config", "uniform64", "--json")
    rows = json.loads(result.stdout)
    assert [row["config"] for row in rows] == ["plaintext", "puma", "ditto", "uniform64"]
    assert [row["speed_up"] for row in rows] == [None, 1.0, 9.0, 9.0]
    assert calls[1] == (("ditto", "uniform64"), True)
    assert "9.0x" in ditto("compare", "gelu", "--no-puma").stdout
    assert calls[3] == (("ditto",), False)


@pytest.mark.parametrize("stage", ["traced", "fused", "owners", "formats", "plan"])
def test_inspect(calls: list[Any], stage: str) -> None:
    assert ditto("inspect", "gelu", "--stage", stage).stdout == f"the {stage} text [not markup]\n"


def test_a_calibration_becomes_a_configuration(tmp_path: Path) -> None:
    known, chosen = tmp_path / "ranges.json", tmp_path / "chosen.toml"
    assert ditto("calibrate", "bert-tiny", "--calls", "1", "--out", str(known)).exit_code == 0
    options = ("--config", "auto", "--stage", "config", "--calibration", str(known))
    shown = ditto("inspect", "bert-tiny", *options)
    chosen.write_text(shown.stdout, encoding="utf-8")
    assert load_config(chosen).default_format == Fxp(32, 11)
    assert any(rule.range for rule in load_config(chosen).rules)


@pytest.mark.parametrize("command", ["run", "compare", "inspect"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["minlm"], "ditto: there is no model 'minlm': did you mean 'minilm'?\n"),
        (
            ["gelu", "--config", "dito"],
            "ditto: there is no configuration 'dito': did you mean 'ditto'? (a path ends with .toml)\n",
        ),
    ],
)
def test_mistyped_names(command: str, arguments: list[str], message: str) -> None:
    result = ditto(command, *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", message)


def test_calibrate_then_ranges(tmp_path: Path) -> None:
    file = tmp_path / "gelu.json"
    assert "operand" in ditto("calibrate", "gelu", "--out", str(file)).stdout
    shown = ditto("inspect", "gelu", "--stage", "ranges", "--calibration", str(file))
    assert "headroom bits" in shown.stdout and "gelu" in shown.stdout
    rows = json.loads(ditto("inspect", "gelu", "--stage", "ranges", "--json").stdout)
    assert {row["what"] for row in rows} == {"result", "declared range", "operand"}
    assert all(row["headroom"] is None for row in rows)


def test_search_writes_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "found.toml"
    result = ditto("search", "gelu", "--out", str(file), "--max-error", "0.01", "--network", "WAN", "--json")
    assert json.loads(result.stdout)["found"]["max_abs_error"] <= 0.01
    assert ditto("inspect", "gelu", "--config", str(file)).exit_code == 0


def test_run_takes_a_calibration(tmp_path: Path) -> None:
    file = tmp_path / "gelu.json"
    ditto("calibrate", "gelu", "--out", str(file))
    narrow = tmp_path / "narrow.toml"
    narrow.write_text('default = "fxp32.28"\n')
    refused = ditto("run", "gelu", "--config", str(narrow), "--calibration", str(file))
    assert refused.exit_code == 2 and "reached" in refused.stderr
    missing = ditto("run", "gelu", "--calibration", str(tmp_path / "none.json"))
    assert missing.exit_code == 2 and "cannot be read" in missing.stderr


def test_shorten_writes_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    assert ditto("shorten", "ditto", "--bits", "3", "--out", str(file)).exit_code == 0
    long, short = load_config("ditto"), load_config(file)
    assert short.default_format == Fxp(32, long.default_format.fraction_bits - 3)
    assert [rule.range for rule in short.rules] == [rule.range for rule in long.rules]
    assert all(
        before.operand is None or after.operand.fraction_bits == max(before.operand.fraction_bits - 3, 0)
        for before, after in zip(long.rules, short.rules, strict=True)
    )
    assert "ends with .toml" in ditto("shorten", "ditto", "--bits", "1", "--out", "x").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--out", "x", "--task", "glu:sst2"], "no task 'glu:sst2': take stdlib"),
        (["finetune", "--out", "x", "--task", "glue:sst"], "no GLUE classification task 'sst'"),
        (["finetune", "--out", "x", "--task", "glue:sst2", "--data", "/nowhere"], "no folder '/nowhere'"),
        (["distill", "/nowhere", "--out", "x"], "holds no trained model"),
        (["distill", "/nowhere", "--out", "x", "--config", "quat"], "no configuration 'quat'"),
        (["evaluate", "/nowhere"], "holds no trained model"),
        (["run", "/nowhere"], "make one with `ditto finetune"),
    ],
)
def test_mistakes_about_training(arguments: list[str], message: str) -> None:
    result = ditto(*arguments)
    assert result.exit_code == 2 and result.stderr.startswith("ditto: ") and message in result.stderr


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"version": 1}')
    assert "is damaged" in ditto("run", str(tmp_path)).stderr
    (tmp_path / "model.json").write_text('{"version": 0}')
    assert "has version 0: train it anew" in ditto("run", str(tmp_path)).stderr


def test_mistyped_stage() -> None:
    result = ditto("inspect", "gelu", "--stage", "plans")
    assert result.exit_code == 2 and "'plan'" in result.stderr


def test_cluster_init_writes_a_cluster_that_run_and_party_read(tmp_path):
    done = ditto("cluster", "init", str(tmp_path / "c"), "--client", "me")
    assert done.exit_code == 0
    assert (tmp_path / "c" / "keys" / "me.key").exists()
    file = str(tmp_path / "c" / "cluster.toml")
    assert "--checked and --material are for simulation" in str(
        ditto("run", "gelu", "--cluster", file, "--checked").stderr
    )
    assert ditto("party", "--rank", "3", "--cluster", file).exit_code == 2
    assert "holds a cluster already" in str(ditto("cluster", "init", str(tmp_path / "c")).stderr)
