"""The cost of a run or plan: one row per step, totals, and the time that a network model predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from ditto_spu.network.model import LAN, WAN, Network
from ditto_spu.network.run_time import Load, predicted_run
from ditto_spu.plan.printed import printed

Triple = tuple[int, int, int]
ZERO: Triple = (0, 0, 0)


@dataclass(frozen=True)
class CostRow:
    """The cost of one step, with bytes and messages by party.

    rounds, seconds: None if they are unknown.
    """

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
    source: str = "counted"  # or "computed" (from the protocol), "measured" (from SPU's log), "unknown"


@dataclass(frozen=True)
class PartyTimes:
    """How a party on a host spent a run, in seconds, summed over its threads.

    computing, sending, waiting: on local work, on handing messages to the network, and on the others'
        messages.
    hidden: how much longer these would have taken one after another.
    """

    computing: float
    sending: float
    waiting: float
    hidden: float

    def __str__(self) -> str:
        return (
            f"{self.computing:.3f} s computing, {self.sending:.3f} s sending, {self.waiting:.3f} s waiting, "
            f"{self.hidden:.3f} s hidden"
        )


@dataclass(frozen=True)
class CostReport:
    """The cost of all steps, after a run or as computed from a plan.

    rows: one per step.
    seconds: the time of the run, or of the online phase alone if the offline phase ran before.
    offline_seconds: the time of the offline phase if it ran before the run, otherwise 0.
    p_error: the probability that any truncation or comparison errs beyond its bound (`p_error.py`). None if
        it is unknown.
    network: the network that was emulated during the run. `seconds` includes its delays already.
    hoisted: the number of operations that each owner computes in plaintext.
    times: how each party spent the run, by rank. Empty for a simulation.
    """

    rows: tuple[CostRow, ...]
    seconds: float = 0.0
    offline_seconds: float = 0.0
    p_error: float | None = None
    network: Network | None = None
    hoisted: Mapping[str, int] = field(default_factory=dict)
    times: tuple[PartyTimes, ...] = ()

    @property
    def online_bytes_sent_per_party(self) -> Triple:
        """Return the bytes that each party sends in the online phase."""
        return _total([row.online_bytes for row in self.rows])

    @property
    def offline_bytes_sent_per_party(self) -> Triple:
        """Return the bytes of dealt material that each party sends.

        They do not depend on inputs, and can be sent before these exist.
        """
        return _total([row.offline_bytes for row in self.rows])

    @property
    def bytes_sent_per_party(self) -> Triple:
        """Return the bytes that each party sends, online and offline."""
        return _total([self.online_bytes_sent_per_party, self.offline_bytes_sent_per_party])

    @property
    def messages_per_party(self) -> Triple:
        """Return the number of messages that each party sends."""
        return _total([row.messages for row in self.rows])

    @property
    def rounds(self) -> int | None:
        """Return the rounds along the critical path.

        None if the rounds of some step are unknown, as SPU does not count them.
        """
        return _rounds(self.rows)

    def predicted_seconds(self, network: Network, calls: int = 1) -> float | None:
        """Return the time that the run would take between hosts on a network.

        calls: how many such calls run as one batch.

        The formula is that of `predicted_run`. None if rounds are unknown, or if the run was already on an
        emulated network.
        """
        if self.rounds is None or self.network is not None:
            return None
        load = Load(
            in_line=_by_busiest(self.rows, lambda row: _total([row.online_bytes, row.offline_bytes])),
            online=_by_busiest(self.rows, lambda row: row.online_bytes),
            dealt=max(self.offline_bytes_sent_per_party),
            rounds=self.rounds,
        )
        return predicted_run(network, self.seconds, load, calls)

    def by_kind(self) -> dict[str, CostRow]:
        """Return totals by kind of step, with most bytes first."""
        kinds = dict.fromkeys(row.kind for row in self.rows)
        sums = {kind: _sum_rows(kind, [row for row in self.rows if row.kind == kind]) for kind in kinds}
        return dict(sorted(sums.items(), key=lambda item: -sum(item[1].online_bytes + item[1].offline_bytes)))

    def as_dicts(self) -> dict[str, Any]:
        """Return plain data for JSON: rows, totals, and the predicted seconds on LAN and WAN."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "seconds": self.seconds,
            "offline_seconds": self.offline_seconds,
            "p_error": self.p_error,
            "hoisted": dict(self.hoisted),
            "times": [asdict(each) for each in self.times],
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
        offline = f" Dealt ahead in {self.offline_seconds:.3f} s." if self.offline_seconds else ""
        failure = "unknown" if self.p_error is None else f"{self.p_error:g}"
        owners = "".join(f" {owner}: {n} operations in plaintext." for owner, n in self.hoisted.items())
        table.caption = (
            f"kB and messages: mean over the parties. p_error {failure}.{offline}{owners} "
            + ", ".join(
                f"{network.name}: {predicted:.2f} s predicted"
                for network in (LAN, WAN)
                if (predicted := self.predicted_seconds(network)) is not None
            )
            + "".join(f"\nparty {rank}: {each}" for rank, each in enumerate(self.times))
        )
        return table

    def __str__(self) -> str:
        return printed(self, width=160)


def _by_busiest(rows: Sequence[CostRow], sent: Callable[[CostRow], Triple]) -> int:
    """Return the bytes of each stage's busiest party, summed over the stages."""
    stages: dict[int, list[Triple]] = {}
    for row in rows:
        stages.setdefault(row.stage, []).append(sent(row))
    return sum(max(_total(each)) for each in stages.values())


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
    """Return the sum over stages. Steps of one stage share rounds, and stages follow each other."""
    stages: dict[int, int] = {}
    for row in rows:
        if row.rounds is None:
            return None
        stages[row.stage] = max(stages.get(row.stage, 0), row.rounds)
    return sum(stages.values())


def _total(triples: Sequence[Triple]) -> Triple:
    return (sum(t[0] for t in triples), sum(t[1] for t in triples), sum(t[2] for t in triples))
