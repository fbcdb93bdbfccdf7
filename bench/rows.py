"""Benchmark rows as a table, with ratios to the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line a row; `PUMA / ours` where the case has a baseline row."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("case")
    shown.add_column("config")
    for title in (
        "seconds",
        "PUMA / ours",
        "MB sent",
        "PUMA / ours",
        "busiest / mean",
        "messages",
        "rounds",
        "max error",
        "mean error",
        "cosine",
        "peak GB",
    ):
        shown.add_column(title, justify="right")
    baselines = {row["case"]: row for row in rows if row["config"] == "puma"}
    for row in rows:
        puma = baselines.get(row["case"])
        sent, mean = row["bytes_sent_per_party"], sum(row["bytes_sent_per_party"]) / 3
        ratios = ("", "")
        if puma is not None and puma is not row:
            ratios = (
                f"{puma['seconds'] / row['seconds']:.1f}",
                f"{sum(puma['bytes_sent_per_party']) / 3 / mean:.1f}" if mean else "",
            )
        shown.add_row(
            row["case"],
            row["config"],
            f"{row['seconds']:.3f}",
            ratios[0],
            f"{mean / 1e6:.2f}",
            ratios[1],
            f"{max(sent) / mean:.2f}" if mean else "-",
            f"{sum(row['messages_per_party']) / 3:.0f}",
            "-" if row["rounds"] is None else str(row["rounds"]),
            f"{row['max_abs_error']:.4f}",
            f"{row['mean_abs_error']:.5f}",
            f"{row['cosine']:.6f}",
            f"{row['peak_memory_bytes'] / 1e9:.2f}",
        )
    return shown
