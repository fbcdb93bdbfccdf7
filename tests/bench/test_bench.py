"""The benchmark driver: rows of a tiny run, the kernels' table, the sweep of formats, plots and errors."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bench import fm32, linear_case, sides
from bench.__main__ import main as bench_main
from bench.embedding_case import embedding_lines, embedding_rows
from bench.format_sweep import format_lines, format_rows
from bench.kernel_cases import kernel_cases
from bench.kernel_table import kernel_rows, kernel_table
from bench.marill_case import marill_lines, marill_rows
from bench.plots import write_plots
from bench.rows import network_table, table
from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_spu import secure
from ditto_spu.compare.stock_spu_fm32 import run_fm32
from ditto_spu.errors import InputError, PartyError, UnsupportedOpError
from ditto_spu.models import Program, named_model


def shown(renderable):
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


@pytest.fixture(scope="module")
def small_rows():
    return kernel_rows(1, lambda line: None, small=True, names=("gelu", "upcast"), peers=False)


def test_every_kernel_but_a_few_has_a_case():
    left_out = {"divide", "matmul_public", "matmul_adapted", "sqrt", "minimum", "reduce_min", "sign"}
    left_out |= {"clamp", "logic", "round", "log", "scale"}
    left_out |= {"sine", "odd_series", "guard_bit"}
    left_out |= {"product_guard", "element_guard", "range_guard", "spread_guard"}
    assert {case.kernel for case in kernel_cases()} == set(KERNELS) - left_out


def test_cases_have_bert_bases_sizes_and_functions_of_the_references_meaning():
    for case in kernel_cases(small=True):
        if case.function is None or case.name == "truncate":
            continue
        expected = KERNELS[case.kernel].reference(*case.arrays, **case.attributes)
        assert np.allclose(case.function(*case.arrays), expected, atol=2e-5), case.name
    sizes = {case.name: case.arrays[0].shape for case in kernel_cases()}
    assert sizes["gelu"] == (128, 3072)
    assert sizes["softmax"] == (12, 128, 128)
    assert sizes["layer_norm"] == (128, 768)


def test_a_kernels_row_has_the_cost_that_its_function_says(small_rows):
    (row,) = (row for row in small_rows if row["kernel"] == "gelu")
    (case,) = (case for case in kernel_cases(small=True) if case.name == "gelu")
    ((array, fxp),) = case.operands
    cost = KERNELS["gelu"].cost(Spec(array.shape, fxp), out=case.out)
    assert row["online_bits_per_element"] == 8 * sum(cost.online) / array.size
    assert row["offline_bits_per_element"] == 8 * sum(cost.offline) / array.size
    assert row["rounds"] == cost.rounds
    assert (
        row["max_abs_error"] <= KERNELS["gelu"].error(Spec(array.shape, fxp), out=case.out) + 1.13 * fxp.ulp
    )
    assert row["ns_per_element"] == pytest.approx(1e9 * row["seconds"] / array.size)


def test_the_table_of_kernels_marks_what_did_not_run(small_rows):
    lines = {tuple(line.split()[:2]): line.split() for line in shown(kernel_table(small_rows)).splitlines()}
    assert lines["gelu", "ours"][2:5] == ["fxp16.9", "->", "fxp32.11"]
    assert lines["gelu", "spu-fm64"][2:] == ["-"] * 9
    assert lines["upcast", "spu-fm32"][2:] == ["-"] * 9


@pytest.mark.slow
def test_a_kernel_runs_beside_stock_spu_over_64_and_32_bits():
    rows = kernel_rows(1, lambda line: None, small=True, names=("multiply",))
    bits = {row["config"]: row["online_bits_per_element"] for row in rows}
    assert bits == {"ours": 160.0, "spu-fm64": 416.0, "spu-fm32": 256.0}
    assert all(row["max_abs_error"] < 0.05 for row in rows)


def test_32_bits_never_see_a_product_of_matrices():
    text = "%0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0]"
    with pytest.raises(UnsupportedOpError, match="end the process: use 64 bits"):
        run_fm32(text, [np.ones((2, 2)), np.ones((2, 2))])


@pytest.mark.slow
def test_what_32_bits_refuse_gives_no_row():
    assert fm32.measure_fm32("reciprocal", 1, small=True) is None


def test_errors_shrink_with_fraction_bits_and_plots_are_written(tmp_path, small_rows):
    program = Program(lambda x: jnp.tanh(x @ x) * 0.3, (np.linspace(-1, 1, 9).reshape(3, 3).astype("f4"),))
    rows = format_rows(lambda line: None, program, (6, 12))
    assert rows[0]["max_abs_error"] > 16 * rows[1]["max_abs_error"] > 0
    assert [line.split()[0] for line in format_lines(rows)] == ["fxp64.6", "fxp64.12"]
    both = [small_rows[0], {**small_rows[0], "config": "spu-fm64"}]
    files = write_plots(rows + both, tmp_path / "plots")
    assert [file.name for file in files] == ["cost-by-op.png", "error-by-bits.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_no_rows_no_plots(tmp_path):
    assert write_plots([], tmp_path) == []


@pytest.mark.slow
def test_a_side_in_its_own_process_gives_a_row(tmp_path):
    said: list[str] = []
    (row,) = sides.measure("layernorm", ["ditto"], 2, said.append)
    json.dumps(row)
    assert (row["case"], row["config"]) == ("layernorm", "ditto")
    assert row["seconds"] == pytest.approx(np.median(row["seconds_all"]))
    assert len(row["seconds_all"]) == 2
    assert len(row["bytes_sent_per_party"]) == len(row["messages_per_party"]) == 3
    assert all(
        sent >= offline
        for sent, offline in zip(
            row["bytes_sent_per_party"], row["offline_bytes_sent_per_party"], strict=True
        )
    )
    assert 0 < row["max_abs_error"] < 0.03
    assert row["cosine"] > 0.999
    assert said[0] == "layernorm: ditto: compile and warm up"
    assert said[-1].startswith("layernorm: ditto: run 2 of 2: ")
    baseline = {**row, "config": "puma", "seconds": 10 * row["seconds"]}
    line = next(line for line in shown(table([row, baseline])).splitlines() if " ditto " in line)
    assert line.split()[3] == "10.0"


@pytest.mark.slow
def test_a_worker_that_dies_is_named():
    with pytest.raises(PartyError, match="the worker for no-such-case, ditto ended with exit code 1"):
        sides.measure("no-such-case", ["ditto"], 1, lambda line: None)


def test_sides_name_configuration_and_mode():
    assert sides.sides_of(["ditto", "a.toml"], ["whole", "masked"]) == [
        "ditto", "ditto:masked", "a.toml", "a.toml:masked",
    ]  # fmt: skip
    assert sides.split_side("ditto") == ("ditto", "whole")
    assert sides.split_side("ditto:ahead") == ("ditto", "ahead")
    assert sides.split_side("odd:name.toml:masked") == ("odd:name.toml", "masked")
    with pytest.raises(InputError, match="no mode 'online': choose whole, ahead, masked"):
        sides.sides_of(["ditto"], ["online"])


def test_a_row_whose_offline_part_is_apart_has_a_second_line():
    row = {
        "case": "c", "config": "ditto:ahead", "seconds": 2.0, "online_seconds": 1.5,
        "bytes_sent_per_party": [4e6, 4e6, 4e6], "offline_bytes_sent_per_party": [1e6, 1e6, 1e6],
        "messages_per_party": [1, 1, 1], "rounds": 3, "max_abs_error": 0.0, "mean_abs_error": 0.0,
        "cosine": 1.0, "peak_memory_bytes": 1e9,
    }  # fmt: skip
    puma = row | {
        "config": "puma",
        "seconds": 30.0,
        "online_seconds": 30.0,
        "bytes_sent_per_party": [6e7] * 3,
    }
    lines = shown(table([row, puma])).splitlines()
    whole, online, predicted = (each.split() for each in lines if "ditto:ahead" in each)
    assert whole[2:6] == ["2.000", "15.0", "4.00", "15.0"]
    assert online[2:] == ["1.500", "20.0", "3.00", "20.0"]
    assert predicted[2:] == ["2.01", "15.0", "2.14", "14.6"]  # 4 MB and 3 rounds, and the baseline's 60 MB
    assert "online" not in shown(table([row | {"online_seconds": 2.0}]))


def test_rows_of_three_processes_stand_beside_puma_and_the_prediction():
    row = {
        "case": "c", "config": "ditto", "network": "WAN", "seconds": 2.2, "request_seconds": 2.4,
        "threads_seconds": 0.2, "predicted_seconds": 2.0, "bytes_sent_per_party": [4e6] * 3, "rounds": 3,
        "max_abs_error": 0.0, "peak_memory_bytes": 1e9,
    }  # fmt: skip
    puma = {key: row[key] for key in row if "_seconds" not in key} | {"config": "puma", "seconds": 22.0}
    puma["rounds"] = None
    ours, theirs = (each.split() for each in shown(network_table([row, puma])).splitlines() if "WAN" in each)
    assert ours[2:8] == ["WAN", "2.200", "10.0", "2.000", "1.10", "2.400"]
    assert ours[8:] == ["0.200", "11.00", "4.00", "3", "0.0000", "1.00"]
    assert theirs[3:] == ["22.000", "4.00", "-", "0.0000", "1.00"]
    elsewhere = network_table([row, puma | {"network": "LAN"}])
    assert "10.0" not in shown(elsewhere)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--case", "gelu", "--network", "wam"], "no network 'wam'"),
        (["--case", "gelu", "--network", "wan", "--mode", "masked"], "--network is for mode whole"),
        (["--case", "gelu", "--network", "wan", "--baseline", "mpcformer"], "baseline puma alone"),
        (["--case", "kernels", "--network", "wan"], "measured in one process"),
    ],
)
def test_what_cannot_be_measured_on_a_network_is_refused_first(arguments, reason):
    app = typer.Typer()
    app.command()(bench_main)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert reason in done.stderr


@pytest.mark.slow
def test_both_sides_run_as_processes_on_a_network():
    said: list[str] = []
    ours, puma = sides.measure("gelu", ["ditto", "puma"], 1, said.append, "bandwidth=2Gbps,rtt=2ms")
    assert ours["network"] == puma["network"] == "2 Gbps, 2 ms"
    assert ours["predicted_seconds"] > ours["threads_seconds"] > 0
    assert ours["request_seconds"] > ours["seconds"] > 0
    assert puma["seconds"] > 0
    assert max(ours["max_abs_error"], puma["max_abs_error"]) < 0.05
    assert "PUMA / ours" in shown(network_table([ours, puma]))


def test_bare_products_are_those_of_the_plan():
    program = named_model("bert-tiny").build()
    plan = secure(program.fn, public=program.public).lower(*program.args).plan
    products = linear_case._products(plan)
    matmuls = [step for step in plan.steps if getattr(step, "kernel", "") == "matmul"]
    assert [x.shape for x, _, _ in products] == [plan.vars[step.inputs[0]].shape for step in matmuls]
    assert linear_case._bare(products) > 0
    row = {"config": "ditto", "seconds": 0.1, "bare_seconds": 0.2, "ratio": 0.5}
    assert "0.50 times the 0.2000 s of bare" in linear_case.linear_lines([row])[0]


@pytest.mark.slow
def test_marills_recipe_in_small():
    rows = marill_rows("ditto", 1, lambda _: None, small=True)
    assert [row["side"] for row in rows][:4] == ["all secret", "frozen", "frozen, LoRA", "recipe"]
    assert all(row["max_abs_error"] < 0.03 for row in rows)
    curve = {row["frozen"]: row["bytes_ratio"] for row in rows if row["side"] == "recipe"}
    assert list(curve) == [2, 0, 1, 3] and curve[0] < curve[1] < curve[2] < curve[3]
    assert curve[2] > 2 and len(marill_lines(rows)) == len(rows)


def test_embeddings_in_small():
    rows = embedding_rows("ditto", 1, lambda _: None, small=True)
    own, hidden, _ = rows
    assert own["upload_bytes"] == 6 * 4 * 4 * 50 and hidden["upload_bytes"] == 6 * 8 * 4
    assert all(row["max_abs_error"] < 0.001 for row in rows) and len(embedding_lines(rows)) == 3
