"""The costs and error bounds in docs/protocols/ are those that the code computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.protocol_costs import DOCUMENT, block_figures, kernel_figures, rewritten, rows
from ditto_kernels import KERNELS
from ditto_kernels.activation.series_tables import GELU, SIGMOID, SILU, TANH

TEXT = DOCUMENT.read_text()
ROOT = Path(__file__).parent.parent.parent


# `python -m bench.protocol_costs` brings the tables up to date; the prose around them is for people.
@pytest.mark.parametrize(
    "row", rows(TEXT, "block"), ids=lambda row: f"{row['protocol']}({row['at n elements']})"
)
def test_costs_of_building_blocks_are_as_documented(row):
    assert row | block_figures(row) == row


@pytest.mark.parametrize(
    "row", rows(TEXT, "kernel"), ids=lambda row: " ".join((row["kernel"], row["operands"], row["attributes"]))
)
def test_costs_and_bounds_of_kernels_are_as_documented(row):
    assert row | kernel_figures(row) == row


def test_wrong_numbers_are_written_anew_and_nothing_else():
    row = next(line for line in TEXT.splitlines() if line.startswith("| cast |") and "16.9" in line)
    spoilt = TEXT.replace(row, row.replace("| 64 | 32 |", "| 65 | 33 |"))
    assert spoilt != TEXT
    assert rewritten(spoilt) == TEXT


def test_every_kernel_is_in_the_table():
    assert {row["kernel"] for row in rows(TEXT, "kernel")} == set(KERNELS)


def test_the_table_of_series_is_that_of_the_curves():
    curves = {"GeLU": GELU, "SiLU": SILU, "tanh": TANH, "sigmoid": SIGMOID}
    wanted = {
        (name, kind): getattr(fits, kind) for name, fits in curves.items() for kind in ("short", "fine")
    }
    for row in rows(TEXT, "function"):
        curve = wanted.pop((row["function"], row["fit"]))
        assert [float(each) for each in row["tails beyond, series within"].split(", ")] == [
            curve.bound,
            curve.outer,
        ]
        assert int(row["period"]) == 1 << curve.period_bits
        assert int(row["harmonics"]) == len(curve.harmonics)
        assert float(row["error of the fit"]) == curve.fit_error
        assert float(row["of the tails"]) == curve.tail_error
    assert not wanted


def test_named_files_and_links_exist():
    for name in re.findall(r"`(\w+\.py)`", TEXT):
        assert (ROOT / "kernels" / name).exists(), name
    for link in re.findall(r"\]\(([\w./]+)\)", TEXT):
        assert (DOCUMENT.parent / link).exists(), link
