"""Plot benchmark rows: `python -m bench.plots RESULTS.json FOLDER` writes one PNG per kind of row."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # only files are written, so no display is needed

from matplotlib import pyplot
from matplotlib.figure import Figure

Row = dict[str, Any]
SIDES = {"ours": ("ours", "tab:blue"), "spu-fm64": ("PUMA on stock SPU, FM64", "tab:orange")}


def cost_by_op(rows: Sequence[Row]) -> Figure:
    """Plot time and traffic per element for every kernel that both sides ran."""
    found = {(row["kernel"], row["config"]): row for row in rows}
    names = [name for name in dict.fromkeys(row["kernel"] for row in rows) if (name, "spu-fm64") in found]
    figure, axes = pyplot.subplots(2, 1, figsize=(10, 8), sharex=True, layout="constrained")
    measures: tuple[tuple[str, Callable[[Row], float]], ...] = (
        ("ns an element", lambda row: float(row["ns_per_element"])),
        (
            "bits an element, all parties, offline included",
            lambda row: float(row["online_bits_per_element"] + row["offline_bits_per_element"]),
        ),
    )
    for axis, (title, measure) in zip(axes, measures, strict=True):
        for place, (side, (label, colour)) in enumerate(SIDES.items()):
            heights = [measure(found[name, side]) for name in names]
            axis.bar([x + 0.4 * place for x in range(len(names))], heights, 0.4, label=label, color=colour)
        axis.set_yscale("log")
        axis.set_ylabel(title)
        axis.grid(axis="y", alpha=0.3)
    axes[0].legend()
    axes[1].set_xticks([x + 0.2 for x in range(len(names))], names, rotation=45, ha="right")
    return figure


def error_by_bits(rows: Sequence[Row]) -> Figure:
    """Plot the largest and the mean error of the layer against the fraction bits of one format everywhere."""
    rows = sorted(rows, key=lambda row: row["fraction_bits"])
    bits = [row["fraction_bits"] for row in rows]
    figure, axis = pyplot.subplots(figsize=(7, 5), layout="constrained")
    for key, label in (("max_abs_error", "largest"), ("mean_abs_error", "mean")):
        axis.plot(bits, [row[key] for row in rows], "o-", label=label)
    axis.set_yscale("log")
    axis.set_xticks(bits)
    axis.set_xlabel("fraction bits, the same everywhere (emulated)")
    axis.set_ylabel("absolute error of a BERT-base layer")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


PLOTS = {"kernels": ("cost-by-op.png", cost_by_op), "formats": ("error-by-bits.png", error_by_bits)}


def write_plots(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Plot every kind of row that occurs, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case, (name, draw) in PLOTS.items():
        chosen = [row for row in rows if row["case"] == case]
        if chosen:
            figure = draw(chosen)
            figure.savefig(folder / name, dpi=120)
            pyplot.close(figure)
            written.append(folder / name)
    return written


def main(results: str, folder: str) -> None:
    """Read rows, write plots and print their names."""
    written = write_plots(json.loads(Path(results).read_text()), Path(folder))
    print("\n".join(map(str, written)) or f"{results} has rows of neither case: {', '.join(PLOTS)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m bench.plots RESULTS.json FOLDER")
    main(*sys.argv[1:])
