"""The pages in docs/protocols/ have the costs and bounds that the code computes, and name what exists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from bench.protocol_costs import FOLDER, block_figures, kernel_figures, marked, pages, rewritten, rows
from ditto_kernels import KERNELS
from ditto_kernels.activation import smooth_series_tables as smooth
from ditto_kernels.activation.series_tables import GELU, MISH, SIGMOID, SILU, SOFTPLUS, TANH

PAGES = pages()
ALL = "\n".join(PAGES.values())
ROOT = Path(__file__).parent.parent.parent


# `python -m bench.protocol_costs` brings the tables up to date; the prose around them is for people.
@pytest.mark.parametrize(
    "row", rows(ALL, "block"), ids=lambda row: f"{row['protocol']}({row['at n elements']})"
)
def test_costs_of_building_blocks_are_as_documented(row):
    assert row | block_figures(row) == row


@pytest.mark.parametrize(
    "row", rows(ALL, "kernel"), ids=lambda row: " ".join((row["kernel"], row["operands"], row["attributes"]))
)
def test_costs_and_bounds_of_kernels_are_as_documented(row):
    assert row | kernel_figures(row) == row


def test_wrong_numbers_are_written_anew_and_nothing_else():
    page = PAGES["casts.md"]
    row = next(line for line in page.splitlines() if line.startswith("| cast |") and "16.9" in line)
    spoilt = page.replace(row, row.replace("| 66 | 16 |", "| 65 | 33 |"))
    assert spoilt != page
    assert rewritten(spoilt) == page


@pytest.mark.parametrize("name", PAGES)
def test_cost_tables_stand_between_their_marks(name):
    page, inside = PAGES[name], "".join(marked(PAGES[name]))
    for heading in ("block", "kernel"):
        assert rows(inside, heading) == rows(page, heading)
    assert bool(inside) == (name != "README.md")


def test_every_kernel_is_on_one_page():
    places = Counter(
        kernel for page in PAGES.values() for kernel in {row["kernel"] for row in rows(page, "kernel")}
    )
    assert places == dict.fromkeys(KERNELS, 1)


def test_the_table_of_series_is_that_of_the_curves():
    curves = {
        "GeLU": GELU,
        "SiLU": SILU,
        "softplus": SOFTPLUS,
        "Mish": MISH,
        "tanh": TANH,
        "sigmoid": SIGMOID,
    }
    wanted = {
        (name, kind): getattr(fits, kind) for name, fits in curves.items() for kind in ("short", "fine")
    }
    for row in rows(ALL, "function"):
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


def test_the_table_of_precise_forms_is_that_of_the_code():
    wanted = {
        "GeLU": smooth.GELU,
        "GeLU by tanh": smooth.GELU_BY_TANH,
        "SiLU": smooth.SILU,
        "softplus": smooth.SOFTPLUS,
        "Mish": smooth.MISH,
        "tanh": smooth.TANH,
        "sigmoid": smooth.SIGMOID,
    }
    for row in rows(ALL, "precise form"):
        curve = wanted.pop(row["precise form"])
        said = [float(row[name]) for name in ("window", "error of the fit", "of the tails")]
        assert said == [curve.bound, curve.fit_error, curve.tail_error]
        assert int(row["period"]) == 1 << curve.period_bits
        assert int(row["harmonics"]) == len(curve.harmonics)
    assert not wanted


@pytest.mark.parametrize("name", PAGES)
def test_named_files_and_definitions_exist(name):
    page = PAGES[name]
    for file in re.findall(r"`([\w/]+\.py)`", page):
        assert (ROOT / file).exists(), file
    for definition, file in re.findall(r"`(\w+)`\s\(`([\w/]+\.py)`", page):
        defined = re.search(rf"^(?:def |class |){definition}\b", (ROOT / file).read_text(), re.MULTILINE)
        assert defined, f"{definition} in {file}"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        file, _, anchor = link.partition("#")
        target = FOLDER / (file or name)
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text()), link


def test_the_index_names_every_page():
    assert {f"[{name}]({name})" for name in PAGES} - {"[README.md](README.md)"} == set(
        re.findall(r"^\| (\[[\w.-]+\]\([\w.-]+\)) \|", PAGES["README.md"], re.MULTILINE)
    )


def _anchors(page: str) -> set[str]:
    """Return the names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
