"""Write the history of a training run to files: CSV and JSON rows, and a plot of the losses."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ditto_spu.errors import InputError


def save_curves(history: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write history.csv and history.json, with one row per validation."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in history for name in row))
    with (folder / "history.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
    (folder / "history.json").write_text(json.dumps(list(history), indent=1) + "\n", encoding="utf-8")


def plot_curves(history: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Plot the losses by step, with one panel per stage, to a picture (.png, .svg or .pdf).

    Raises InputError if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("the plot needs matplotlib: run `pip install matplotlib`") from None
    stages = list(dict.fromkeys(row["stage"] for row in history))
    figure = Figure(figsize=(1 + 4 * len(stages), 3.5), layout="constrained")
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        rows = [row for row in history if row["stage"] == stage]
        for name in ("loss", "validation_loss"):
            shown = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*shown, strict=True), ".-", label=name.replace("_", " "))
        accuracy = [(row["step"], row["accuracy"]) for row in rows if "accuracy" in row]
        if accuracy:
            beside = axes.twinx()
            beside.plot(*zip(*accuracy, strict=True), ".--", color="tab:green", label="accuracy (right)")
            beside.set_ylim(0, 1)
            axes.plot([], [], ".--", color="tab:green", label="accuracy (right)")
        axes.set(title=f"stage '{stage}'", xlabel="step", yscale="log")
        axes.legend()
    figure.savefig(path)
