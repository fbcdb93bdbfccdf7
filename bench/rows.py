"""Show benchmark rows as a table, with ratios to the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ditto_spu.network.model import LAN, WAN, Network, predicted_seconds

BASELINES = {
    "puma": "PUMA",
    "spu": "SPU",
    "mpcformer": "MPCFormer",
}  # config of their rows, and their names in the table
Compared = Sequence[tuple[dict[str, Any], list[dict[str, Any] | None]]]  # a row, and the baselines' rows


def table(rows: Sequence[dict[str, Any]]) -> Group:
    """Return a table with one line per row, and with notes below.

    A row has ratios such as `PUMA / ours` if its case has a row of that baseline.
    """
    baselines = [name for name in BASELINES if any(row["config"] == name for row in rows)]
    ratios = [f"{BASELINES[name]} / ours" for name in baselines]
    measured = {(row["case"], row["config"]): row for row in rows}
    compared = [(row, _beside(row, measured, baselines)) for row in rows]
    costs = ("seconds", *ratios, "MB sent", *ratios, "busiest / mean", "messages", "rounds")
    shown = _table("case", [*costs, "max error", "mean error", "cosine", "peak GB"])
    for row, beside in compared:
        sent, mean = row["bytes_sent_per_party"], sum(row["bytes_sent_per_party"]) / 3
        shown.add_row(
            row["case"],
            row["config"],
            f"{row['seconds']:.3f}",
            *(_ratio(each and each["seconds"], row["seconds"]) for each in beside),
            f"{mean / 1e6:.2f}",
            *(_ratio(each and sum(each["bytes_sent_per_party"]), sum(sent)) for each in beside),
            f"{max(sent) / mean:.2f}" if mean else "-",
            f"{sum(row['messages_per_party']) / 3:.0f}",
            "-" if row["rounds"] is None else str(row["rounds"]),
            f"{row['max_abs_error']:.4f}",
            f"{row['mean_abs_error']:.5f}",
            f"{row['cosine']:.6f}",
            f"{row['peak_memory_bytes'] / 1e9:.2f}",
        )
    notes = {row["config"]: row["note"] for row in rows if "note" in row}
    apart = [
        each for each in compared if each[0]["seconds"] != each[0].get("online_seconds", each[0]["seconds"])
    ]
    others = [_online(apart, ratios)] if apart else []
    others += [_predictions(compared, ratios)] if baselines else []
    return Group(shown, *others, *(Text(f"{config}: {note}") for config, note in notes.items()))


def network_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a table of rows of three processes.

    It shows the seconds of the slowest party beside those of PUMA, of the prediction and of threads.
    """
    baselines = {(row["case"], row["network"]): row for row in rows if row["config"] == "puma"}
    titles = ["network", "seconds", "PUMA / ours", "predicted", "measured / predicted", "client's seconds"]
    titles += ["threads' seconds", "processes / threads", "MB sent", "rounds", "max error", "peak GB"]
    shown = _table("case", titles)
    for row in rows:
        beside = None if row["config"] in BASELINES else baselines.get((row["case"], row["network"]))
        foreseen, threads = row.get("predicted_seconds"), row.get("threads_seconds")
        shown.add_row(
            row["case"],
            row["config"],
            row["network"],
            f"{row['seconds']:.3f}",
            _ratio(beside and beside["seconds"], row["seconds"]),
            f"{foreseen:.3f}" if foreseen else "",
            f"{row['seconds'] / foreseen:.2f}" if foreseen else "",
            f"{row['request_seconds']:.3f}" if "request_seconds" in row else "",
            f"{threads:.3f}" if threads else "",
            f"{row['seconds'] / threads:.2f}" if threads else "",
            f"{sum(row['bytes_sent_per_party']) / 3e6:.2f}",
            "-" if row["rounds"] is None else str(row["rounds"]),
            f"{row['max_abs_error']:.4f}",
            f"{row['peak_memory_bytes'] / 1e9:.2f}",
        )
    return shown


def predicted(row: dict[str, Any], network: Network) -> float:
    """Return the predicted seconds on a network.

    If the rounds are not counted, messages stand in for them, which gives an upper bound.
    """
    rounds = max(row["messages_per_party"]) if row["rounds"] is None else row["rounds"]
    return predicted_seconds(network, row["seconds"], row["bytes_sent_per_party"], rounds)


def _beside(
    row: dict[str, Any], measured: Mapping[tuple[str, str], dict[str, Any]], baselines: Sequence[str]
) -> list[dict[str, Any] | None]:
    """Return the baselines' rows of the same case, in their order. A baseline itself has None for each."""
    return [None if row["config"] in BASELINES else measured.get((row["case"], name)) for name in baselines]


def _predictions(compared: Compared, ratios: Sequence[str]) -> Table:
    """Return a table of predicted seconds, with the baselines' over ours.

    A prediction is compute + bytes / bandwidth + rounds x RTT / 2, with everything online.
    """
    titles = [title for network in (LAN, WAN) for title in (network.name, *ratios)]
    shown = _table("predicted seconds", titles)
    for row, beside in compared:
        cells = []
        for network in (LAN, WAN):
            own = predicted(row, network)
            cells += [f"{own:.2f}", *(_ratio(each and predicted(each, network), own) for each in beside)]
        shown.add_row(row["case"], row["config"], *cells)
    shown.caption = "for PUMA, messages bound the rounds"
    return shown


def _online(compared: Compared, ratios: Sequence[str]) -> Table:
    """Return a table of the online part of requests whose material was made before.

    A baseline does everything online.
    """
    shown = _table("online only", ["seconds", *ratios, "MB sent", *ratios])
    for row, beside in compared:
        seconds = row["online_seconds"]
        sent = sum(row["bytes_sent_per_party"]) - sum(row["offline_bytes_sent_per_party"])
        shown.add_row(
            row["case"],
            row["config"],
            f"{seconds:.3f}",
            *(_ratio(each and each["seconds"], seconds) for each in beside),
            f"{sent / 3e6:.2f}",
            *(_ratio(each and sum(each["bytes_sent_per_party"]), sent) for each in beside),
        )
    return shown


def _table(first: str, titles: Sequence[str]) -> Table:
    """Return an empty table whose columns are case, configuration and then numbers."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in (first, "config"):
        shown.add_column(title)
    for title in titles:
        shown.add_column(title, justify="right")
    return shown


def _ratio(baseline: float | None, ours: float) -> str:
    return f"{baseline / ours:.1f}" if baseline is not None and ours else ""
