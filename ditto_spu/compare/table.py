"""Show one function run in several ways as a table: plaintext, configurations, PUMA on stock SPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table

from ditto_spu.network.model import LAN, WAN, Network, predicted_seconds
from ditto_spu.plan.printed import printed

PLAINTEXT = "plaintext"
PUMA = "puma"


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One way of running the function. A figure is None if it was not measured or has no meaning."""

    config: str  # name of a configuration, PLAINTEXT, PUMA, or name of a part of either
    seconds: float
    items: int = 1  # number of inputs (sentences) that these seconds and bytes are for
    bytes_sent_per_party: tuple[int, ...] | None = None  # including the offline phase
    offline_bytes_sent_per_party: tuple[int, ...] | None = None
    messages_per_party: tuple[int, ...] | None = None
    rounds: int | None = None
    max_abs_error: float | None = None
    mean_abs_error: float | None = None
    cosine: float | None = None
    note: str = ""
    part_of: str | None = None  # set on a row that measures only a part of another


class Accuracy(TypedDict):
    """The fields of a row that compare its outputs with plaintext."""

    max_abs_error: float
    mean_abs_error: float
    cosine: float


@dataclass(frozen=True)
class Comparison:
    """Rows in the order in which they are shown. `str` gives the table, `as_dicts` the numbers."""

    rows: tuple[ComparisonRow, ...]
    item: str = "call"  # name of one input, such as "sentence"

    def row(self, config: str) -> ComparisonRow | None:
        """Return the row of that name, or None."""
        return next((row for row in self.rows if row.config == config), None)

    def speed_up(self, row: ComparisonRow) -> float | None:
        """Return by which factor an input is faster than with PUMA.

        It is None for plaintext, for parts, and if PUMA did not run.
        """
        puma = self.row(PUMA)
        if puma is None or row.config == PLAINTEXT or row.part_of is not None:
            return None
        return (puma.seconds / puma.items) / (row.seconds / row.items)

    def predicted(self, row: ComparisonRow, network: Network) -> float | None:
        """Return the predicted seconds for one input on a network, or None if bytes or rounds are unknown.

        For PUMA, messages stand in for rounds, which gives an upper bound.
        """
        if row.bytes_sent_per_party is None:
            return None
        rounds = row.rounds
        if rounds is None:
            rounds = max(row.messages_per_party) if row.messages_per_party else None
        if rounds is None:
            return None
        return predicted_seconds(network, row.seconds, row.bytes_sent_per_party, rounds) / row.items

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return plain data for JSON."""
        return [
            {
                **asdict(row),
                "speed_up": self.speed_up(row),
                "predicted_seconds": {network.name: self.predicted(row, network) for network in (LAN, WAN)},
            }
            for row in self.rows
        ]

    def __rich__(self) -> Group:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for title in (
            "seconds",
            "MB sent\nper party",
            "messages\nper party",
            "rounds",
            f"speed-up\nper {self.item}",
            "LAN s\npredicted",
            "WAN s\npredicted",
            "max\nerror",
            "cosine",
        ):
            table.add_column(title, justify="right")
        for row in self.rows:
            table.add_row(
                f"  {row.config}" if row.part_of else row.config,
                f"{row.seconds:.2f}",
                _cell(_mean(row.bytes_sent_per_party, 1e6), "{:,.1f}"),
                _cell(_mean(row.messages_per_party), "{:,.0f}"),
                _cell(row.rounds, "{:,}"),
                _cell(self.speed_up(row), "{:.1f}x"),
                _cell(self.predicted(row, LAN), "{:.1f}"),
                _cell(self.predicted(row, WAN), "{:.1f}"),
                _cell(row.max_abs_error, "{:.4f}" if (row.max_abs_error or 0) < 100 else "{:.0e}"),
                _cell(row.cosine, "{:.5f}"),
            )
        # Notes beside the numbers would make the table too wide for a terminal.
        model = f"predicted per {self.item}, {LAN.name}, {WAN.name}: compute + transfer + rounds x RTT/2"
        bound = "; for PUMA, messages bound the rounds" if self.row(PUMA) else ""
        return Group(table, *(f"{row.config}: {row.note}" for row in self.rows if row.note), model + bound)

    def __str__(self) -> str:
        return printed(self)


def accuracy(outputs: Sequence[Any], expected: Sequence[Any]) -> Accuracy:
    """Return the largest and the mean absolute error over all arrays, and the least cosine.

    Cosines are those of vectors along the last dimension.
    """
    errors, cosines = [np.zeros(0)], [1.0]
    for output, target in zip(outputs, expected, strict=True):
        y, x = (np.atleast_1d(np.asarray(array, dtype=np.float64)) for array in (output, target))
        errors.append(np.abs(y - x).ravel())
        lengths = np.linalg.norm(y, axis=-1) * np.linalg.norm(x, axis=-1)
        products = np.sum(x * y, axis=-1)
        cosines.extend((products[lengths > 0] / lengths[lengths > 0]).ravel())
    error = np.concatenate(errors)
    return {
        "max_abs_error": float(error.max(initial=0.0)),
        "mean_abs_error": float(error.mean()) if error.size else 0.0,
        "cosine": float(min(cosines)),
    }


def _mean(values: tuple[int, ...] | None, unit: float = 1.0) -> float | None:
    return sum(values) / len(values) / unit if values else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
