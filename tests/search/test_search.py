"""Tests the precision search on small programs.

Its result compiles, has the cost and error that it states, and is within the budget.
"""

import json
import sys

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.api import secure
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.compare.table import accuracy
from ditto_spu.emulation.emulator import Emulator
from ditto_spu.emulation.kernel_errors import kernel_errors
from ditto_spu.errors import ConfigError, InputError
from ditto_spu.models import named_model
from ditto_spu.network.model import predicted_seconds
from ditto_spu.passes.formats.assign import assign
from ditto_spu.passes.formats.linearise import linearise
from ditto_spu.passes.formats.replace_functions import replace_functions
from ditto_spu.passes.pipeline import advance, begin
from ditto_spu.search.changes import groups, pattern
from tests.on_spu import paired

RNG = np.random.default_rng(11)
X = RNG.standard_normal((8, 16)).astype(np.float32)
W = [(RNG.standard_normal((16, 16)) / 4).astype(np.float32) for _ in range(2)]
START = {
    "name": "wide",
    "default": "fxp32.11",
    "rule": [{"op": "weight", "format": "fxp32.14"}, {"op": "gelu", "operand": "fxp16.9"}],
}


def layers(x, first, second):
    for number, w in enumerate((first, second)):
        with jax.named_scope(f"layer/{number}/dense"):
            x = x @ w
        with jax.named_scope(f"layer/{number}/act"):
            x = jax.nn.gelu(x, approximate=False)
    return x


ARGS = (X, *W)


@pytest.fixture(scope="module")
def found():
    return ditto.search(layers, [ARGS, (X[::-1].copy(), *W)], network="WAN", start=START)


def test_it_is_no_dearer_at_no_larger_error(found):
    assert found.point.seconds <= found.start.seconds
    assert found.point.max_abs_error <= found.start.max_abs_error
    assert found.point.mean_abs_error <= found.start.mean_abs_error
    assert [each.name for each in found.baselines][:2] == ["wide", "uniform64"]


def test_the_file_compiles_to_what_was_found(found, tmp_path):
    found.save(tmp_path / "found.toml")
    function = ditto.secure(layers, config=tmp_path / "found.toml", seed=1)
    report = function.lower(*ARGS).cost_analysis()
    assert sum(report.bytes_sent_per_party) / 3e6 == pytest.approx(found.point.megabytes)
    assert report.rounds == found.point.rounds
    text = (tmp_path / "found.toml").read_text()
    assert text.count("kB saved") == len(found.moves) > 0
    error = np.abs(np.asarray(function(*ARGS)) - np.asarray(layers(*ARGS))).max()
    assert error < 2 * found.point.max_abs_error


@pytest.mark.slow
@pytest.mark.parametrize(("model", "calls"), [("bert-base-layer", 1), ("minilm", 2)])
def test_named_models_get_at_most_the_cost_of_ditto_at_no_larger_error(model, calls):
    program = named_model(model).build()
    best = ditto.search(program.fn, program.calls[:calls], public=program.public, seconds=60)
    assert best.point.seconds < best.start.seconds
    assert best.point.megabytes < best.start.megabytes
    assert best.point.max_abs_error <= best.start.max_abs_error
    assert best.point.mean_abs_error <= best.start.mean_abs_error


def test_a_budget_holds_and_an_impossible_one_is_refused():
    tight = ditto.search(layers, [ARGS], ditto.ErrorBudget(max=0.006, cosine=0.999), start=START)
    assert tight.point.max_abs_error <= 0.006 and tight.point.cosine >= 0.999
    with pytest.raises(ConfigError, match="no configuration was found within the budget: the least error is"):
        ditto.search(layers, [ARGS], ditto.ErrorBudget(max=1e-7), start=START, seconds=5)


def test_a_metric_of_ones_own():
    def worst(outputs, expected):
        return float(np.abs(outputs[0] - expected[0]).sum(axis=-1).max())

    budget = ditto.ErrorBudget(metric=worst, metric_limit=0.06)
    assert ditto.search(layers, [ARGS], budget, start=START).point.metric <= 0.06


def test_reports(found, tmp_path):
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "pareto.svg")
    picture = (tmp_path / "pareto.svg").read_text()
    assert "<svg" in picture
    data = json.loads(json.dumps(found.as_dicts()))
    assert {row["path"] for row in data["sensitivity"]} == {"layer/(0|1)/dense", "layer/(0|1)/act"}
    for row in found.sensitivity:
        assert row.errors[-2] > 1.5 * row.errors[0] > 0  # one bit less doubles the error


def test_a_kernel_is_measured_on_operands_of_the_size_seen_before_their_cast():
    def program(x, w):
        with jax.named_scope("dense"):
            x = x @ w
        with jax.named_scope("act"):
            return jax.nn.gelu(x, approximate=False)

    calibration = ditto.calibrate(program, [(4 * X, W[0])])
    errors = []
    for bits in (10, 9):  # fxp16.9 is cast before the kernel, and fxp16.10 is the format that it reads
        rules = [
            {"op": "matmul", "format": f"fxp16.{bits}", "range": 15},
            {"op": "gelu", "operand": "fxp16.10"},
        ]
        plan = ditto.secure(program, config={"default": "fxp32.11", "rule": rules}).lower(X, W[0]).plan
        errors.append(kernel_errors(plan, calibration)["act", "gelu"])
    assert errors[0] == errors[1]


def test_puma_joins_as_it_was_measured(found, tmp_path):
    row = {
        "config": "puma",
        "items": 2,
        "bytes_sent_per_party": [6e6, 6e6, 6e6],
        "messages_per_party": [40, 50, 40],
        "rounds": None,
        "max_abs_error": 0.001,
        "mean_abs_error": 0.0002,
        "cosine": 1.0,
    }
    with_puma = found.with_measured([{"config": "plaintext"}, row])
    (point,) = with_puma.measured
    assert (point.megabytes, point.rounds) == (3.0, 25)
    assert point.seconds == pytest.approx(predicted_seconds(found.network, 0.0, [6_000_000], 50) / 2)
    assert with_puma.as_dicts()["measured"][0]["name"] == "puma"
    pytest.importorskip("matplotlib")
    with_puma.plot(tmp_path / "pareto.svg")
    for rows, message in (([], "no row 'puma'"), ([{"config": "puma"}], "not one of `ditto compare")):
        with pytest.raises(InputError, match=message):
            found.with_measured(rows)


def test_without_matplotlib_the_plot_says_what_to_install(found, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        found.plot(tmp_path / "pareto.png")
    with pytest.raises(InputError, match=r"ends with \.toml"):
        found.save(tmp_path / "found.json")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ditto.search(layers, [ARGS], network="LAM"), InputError, "did you mean 'lan'"),
        (lambda: ditto.search(layers, [ARGS, (X[:4], *W)]), InputError, "equal shapes"),
        (lambda: ditto.search(paired, [(X,)]), InputError, "steps on SPU"),
        (lambda: ditto.ErrorBudget(max=0), InputError, "max must be positive"),
        (lambda: ditto.ErrorBudget(metric_limit=1.0), InputError, "metric needs"),
    ],
)
def test_wrong_searches(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- the parts ---


def assigned(config):
    function = secure(layers, config=config)
    traced, values = function.traced_batch(ARGS)
    linear = linearise(advance(begin(traced), "hoist").parts.module, traced.public)
    return replace_functions(assign(linear, traced.public, function.lower(*ARGS).config)), values, function


def test_the_emulator_agrees_with_the_emulation_up_to_what_it_adds():
    module, values, function = assigned(START)
    emulator = Emulator(module)
    expected = function.lower(*ARGS).emulate(values)
    calm = emulator.run(module, {}, values)
    assert (
        np.abs(calm[0] - expected[0]).max() < 4 * 2.0**-9
    )  # each of two products may err by a further half ulp
    kernels = {(f"layer/{number}/act", "gelu"): 0.25 for number in (0, 1)}
    assert 0.1 < np.abs(emulator.run(module, kernels, values)[0] - expected[0]).max() < 0.6


def test_one_emulator_serves_other_formats():
    coarse, values, _ = assigned({"default": "fxp32.5"})
    fine, _, _ = assigned({"default": "fxp32.12"})
    exact = [np.asarray(layers(*ARGS))]
    errors = [
        accuracy(Emulator(fine).run(module, {}, values), exact)["mean_abs_error"] for module in (coarse, fine)
    ]
    assert errors[0] > 30 * errors[1]


def test_like_layers_form_a_group_and_rules_keep_layers_apart():
    module, _, function = assigned(START)
    assert [str(each) for each in groups(module, function.lower(*ARGS).config)] == [
        "matmul at 'layer/(0|1)/dense'",
        "gelu at 'layer/(0|1)/act'",
    ]
    config = {
        **START,
        "rule": [{"op": "matmul", "path": "layer/0/dense", "operand": "fxp32.9"}, *START["rule"]],
    }
    module, _, function = assigned(config)
    paths = [each.path for each in groups(module, function.lower(*ARGS).config)]
    assert paths == ["layer/0/dense", "layer/(0|1)/act", "layer/1/dense"]


def test_patterns_match_their_paths_alone():
    assert pattern(("a/1/b.c", "a/12/b.c")) == r"a/(1|12)/b\.c"
    assert pattern(("a/x",)) == "a/x"


def test_kernel_errors_are_small_positive_and_below_the_bound():
    function = secure(layers, config=START)
    plan = function.lower(*ARGS).plan
    calibration: Calibration = function.calibrate([ARGS])
    errors = kernel_errors(plan, calibration)
    assert set(errors) == {("layer/0/act", "gelu"), ("layer/1/act", "gelu")}
    assert all(0 < each < 0.0042 for each in errors.values())
