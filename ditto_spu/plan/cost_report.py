"""What a run cost: a row a step, totals, and the time that a network model predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ditto_spu.network.model import LAN, WAN, Network, predicted_seconds

Triple = tuple[int, int, int]
ZERO: Triple = (0, 0, 0)


@dataclass(frozen=True)
class CostRow:
    """One step: bytes and messages by party; rounds or seconds are None where nobody has measured them."""

    step: int
    path: str
    kind: str
    format: str
    stage: int = 0  # steps of one stage share rounds
    online_bytes: Triple = ZERO
    offline_bytes: Triple = ZERO
    messages: Triple = ZERO
    rounds: int | None = 0
    seconds: float | None = None
    source: str = "counted"  # or "computed" (derived from the protocol), "measured" (SPU's log), "unknown"


@dataclass(frozen=True)
class CostReport:
    """All steps of a run, or of a plan before any run.

    seconds: of the run; what was dealt ahead took `offline_seconds` before it. p_error: the probability that
    any truncation or comparison errs beyond its bound (`failure.py`); None if it is unknown. network: the one
    that was emulated meanwhile, which is in `seconds` already. hoisted: the number of operations that each
    owner computes in plaintext.
    """

    rows: tuple[CostRow, ...]
    seconds: float = 0.0
    offline_seconds: float = 0.0
    p_error: float | None = None
    network: Network | None = None
    hoisted: Mapping[str, int] = field(default_factory=dict)

    @property
    def online_bytes_sent_per_party(self) -> Triple:
        return _total([row.online_bytes for row in self.rows])

    @property
    def offline_bytes_sent_per_party(self) -> Triple:
        """Dealt material: independent of inputs, could be sent ahead."""
        return _total([row.offline_bytes for row in self.rows])

    @property
    def bytes_sent_per_party(self) -> Triple:
        """Online and offline."""
        return _total([self.online_bytes_sent_per_party, self.offline_bytes_sent_per_party])

    @property
    def messages_per_party(self) -> Triple:
        return _total([row.messages for row in self.rows])

    @property
    def rounds(self) -> int | None:
        """Critical path; None if some step's rounds are not known (SPU counts none)."""
        return _rounds(self.rows)

    def predicted_seconds(self, network: Network) -> float | None:
        """compute + bytes / bandwidth + rounds * round trip / 2, with the busiest party's bytes.

        None if rounds are not known, or if a network has been in the way already.
        """
        if self.rounds is None or self.network is not None:
            return None
        return predicted_seconds(network, self.seconds, self.bytes_sent_per_party, self.rounds)

    def by_kind(self) -> dict[str, CostRow]:
        """Totals by kind of step, most bytes first."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        sums = {kind: _sum_rows(kind, [row for row in self.rows if row.kind == kind]) for kind in kinds}
        return dict(sorted(sums.items(), key=lambda item: -sum(item[1].online_bytes + item[1].offline_bytes)))

    def as_dicts(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "seconds": self.seconds,
            "offline_seconds": self.offline_seconds,
            "p_error": self.p_error,
            "hoisted": dict(self.hoisted),
            "bytes_sent_per_party": self.bytes_sent_per_party,
            "offline_bytes_sent_per_party": self.offline_bytes_sent_per_party,
            "messages_per_party": self.messages_per_party,
            "rounds": self.rounds,
            "network": None if self.network is None else self.network.name,
            "predicted_seconds": {network.name: self.predicted_seconds(network) for network in (LAN, WAN)},
        }

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
        totals = _sum_rows("total", list(self.rows))
        footers = ("", "total", "", "", *_numbers(totals), f"{self.seconds:.3f}" if self.seconds else "-")
        titles = (
            "step",
            "path",
            "kind",
            "format",
            "kB online",
            "kB offline",
            "messages",
            "rounds",
            "seconds",
        )
        for place, (title, footer) in enumerate(zip(titles, footers, strict=True)):
            table.add_column(title, footer=footer, justify="right" if place in (0, 4, 5, 6, 7, 8) else "left")
        for row in self.rows:
            if any(row.online_bytes + row.offline_bytes) or row.rounds is None or (row.seconds or 0) > 1e-3:
                seconds = "-" if row.seconds is None else f"{row.seconds:.4f}"
                table.add_row(str(row.step), row.path, row.kind, row.format, *_numbers(row), seconds)
        ahead = f" Dealt ahead in {self.offline_seconds:.3f} s." if self.offline_seconds else ""
        failure = "unknown" if self.p_error is None else f"{self.p_error:g}"
        owners = "".join(f" {owner}: {n} operations in plaintext." for owner, n in self.hoisted.items())
        table.caption = (
            f"kB and messages: mean over the parties. p_error {failure}.{ahead}{owners} "
            + ", ".join(
                f"{network.name}: {predicted:.2f} s predicted"
                for network in (LAN, WAN)
                if (predicted := self.predicted_seconds(network)) is not None
            )
        )
        return table

    def __str__(self) -> str:
        console = Console(width=160, no_color=True)
        with console.capture() as captured:
            console.print(self)
        return captured.get()


def _numbers(row: CostRow) -> tuple[str, str, str, str]:
    if row.source == "unknown":
        return "?", "?", "?", "?"
    rounds = "?" if row.rounds is None else str(row.rounds)
    return (
        f"{sum(row.online_bytes) / 3e3:,.1f}",
        f"{sum(row.offline_bytes) / 3e3:,.1f}",
        f"{sum(row.messages) / 3:,.0f}",
        rounds,
    )


def _sum_rows(kind: str, rows: Sequence[CostRow]) -> CostRow:
    return CostRow(
        step=-1,
        path="",
        kind=kind,
        format="",
        online_bytes=_total([row.online_bytes for row in rows]),
        offline_bytes=_total([row.offline_bytes for row in rows]),
        messages=_total([row.messages for row in rows]),
        rounds=_rounds(rows),
        seconds=sum(row.seconds or 0.0 for row in rows),
    )


def _rounds(rows: Sequence[CostRow]) -> int | None:
    """The steps of a stage share rounds, stages follow each other."""
    stages: dict[int, int] = {}
    for row in rows:
        if row.rounds is None:
            return None
        stages[row.stage] = max(stages.get(row.stage, 0), row.rounds)
    return sum(stages.values())


def _total(triples: Sequence[Triple]) -> Triple:
    return (sum(t[0] for t in triples), sum(t[1] for t in triples), sum(t[2] for t in triples))
