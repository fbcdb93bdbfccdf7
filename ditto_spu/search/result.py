"""The result of a precision search: a configuration with reasons, its cost and error, and sensitivities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group as Shown
from rich.table import Table

from ditto_spu.compare.table import PUMA
from ditto_spu.errors import InputError
from ditto_spu.network.model import Network, predicted_seconds
from ditto_spu.rules.rule import Config
from ditto_spu.search.changes import Move

BASELINES = ("uniform64", "ditto-paper")


@dataclass(frozen=True)
class Point:
    """The predicted cost and the emulated error of one configuration."""

    name: str
    seconds: float  # predicted for the network, without compute
    megabytes: float  # sent per party, in the mean
    rounds: int
    max_abs_error: float
    mean_abs_error: float
    cosine: float
    metric: float | None = None


@dataclass(frozen=True)
class Sensitivity:
    """The mean error that the rounding of one group's results alone causes.

    format: the format of the group's results.
    errors: the mean error by the number of fraction bits added to that format.
    """

    op: str
    path: str
    format: str
    errors: Mapping[int, float]


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    config: the configuration, which compiles like any other. `save` writes it with reasons.
    moves: the changes that were kept, each with its reason.
    start: cost and error of the configuration from which the search started.
    point: cost and error of `config`.
    path: the points from the start with calibrated ranges to `point`.
    baselines: `start`, `uniform64` and `ditto-paper`.
    sensitivity: one entry per group of operations.
    measured: further points, such as PUMA, from `with_measured`.
    """

    config: Config
    moves: tuple[tuple[Move, str], ...]
    start: Point
    point: Point
    path: tuple[Point, ...]  # from the start with calibrated ranges to `point`
    baselines: tuple[Point, ...]
    sensitivity: tuple[Sensitivity, ...]
    network: Network
    measured: tuple[Point, ...] = ()  # beside it, such as PUMA: `with_measured`

    def with_measured(
        self, rows: Sequence[Mapping[str, Any]], names: Sequence[str] = (PUMA,)
    ) -> SearchResult:
        """Return the same result with measured rows as further points.

        The bytes that the runs sent are priced like those of the other points.

        rows: of `Comparison.as_dicts`.
        names: the configurations whose rows are taken.

        Raises InputError if no row has such a name, or if a row lacks a field.
        """
        points = tuple(_measured(row, self.network) for row in rows if row.get("config") in names)
        if not points:
            raise InputError(f"the comparison has no row '{names[0]}': run `ditto compare MODEL --json`")
        return replace(self, measured=points)

    def toml(self, name: str = "found") -> str:
        """Return the configuration as the text of a TOML file.

        It has the changes first, then the rules of the start, then the ranges from calibration.
        """
        changes = len(self.moves)
        own = len(self.config.rules) - changes
        lines = [
            f"# Found by `ditto search` from '{self.config.name}' for {self.network.name}.",
            f"# found: {_figures(self.point)}",
            f"# {self.config.name}: {_figures(self.start)}",
            "# Errors are emulated, with those of the kernels. Ranges at the end come from calibration.",
            f'description = "searched from {self.config.name}"',
            f'default = "{self.config.default_format}"',
        ]
        reasons = [why for _, why in reversed(self.moves)] + [""] * own
        for rule, why in zip(self.config.rules, reasons, strict=True):
            lines += ["", *([f"# {why}"] if why else []), "[[rule]]", str(rule)]
        return "\n".join(lines) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the configuration to a file. Raises InputError unless its name ends with .toml."""
        if Path(path).suffix != ".toml":
            raise InputError(f"a configuration's file ends with .toml, but '{path}' does not")
        Path(path).write_text(self.toml(), encoding="utf-8")

    def as_dicts(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "network": self.network.name,
            "start": asdict(self.start),
            "found": asdict(self.point),
            "path": [asdict(each) for each in self.path],
            "baselines": [asdict(each) for each in self.baselines],
            "measured": [asdict(each) for each in self.measured],
            "sensitivity": [asdict(each) for each in self.sensitivity],
            "changes": [{"rule": str(move.rule), "reason": why} for move, why in self.moves],
        }

    def plot(self, path: str | Path) -> None:
        """Plot cost against error of all points to a file (.png, .svg, .pdf).

        Raises InputError if matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise InputError("the plot needs matplotlib: run `pip install matplotlib`") from None
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot([p.mean_abs_error for p in self.path], [p.seconds for p in self.path], ".-", label="search")
        shown = [each for each in (*self.measured, *self.baselines, self.point) if each.mean_abs_error > 0]
        for each in shown:
            axes.plot(each.mean_abs_error, each.seconds, "o")
            name = "found" if each is self.point else each.name
            axes.annotate(name, (each.mean_abs_error, each.seconds), (5, 5), textcoords="offset points")
        axes.set(
            xscale="log", xlabel="mean error, emulated", ylabel=f"seconds predicted, {self.network.name}"
        )
        axes.margins(0.15)
        axes.legend()
        figure.savefig(path)

    def __rich__(self) -> Shown:
        points = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("", "seconds", "MB a party", "rounds", "max error", "mean error", "cosine"):
            points.add_column(title, justify="right" if title else "left")
        for each in (*self.measured, *self.baselines, *self.path[:1], self.point):
            name = "found" if each is self.point else each.name
            points.add_row(
                name,
                f"{each.seconds:.4f}",
                f"{each.megabytes:.2f}",
                str(each.rounds),
                f"{each.max_abs_error:.3g}",
                f"{each.mean_abs_error:.3g}",
                f"{each.cosine:.6f}",
            )
        measured = ", ".join(f"{each.name} as measured" for each in self.measured)
        points.caption = f"predicted for {self.network.name}, without compute" + (
            measured and f"; {measured}"
        )
        bits = sorted({bit for row in self.sensitivity for bit in row.errors})
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="mean error of rounding one group alone")
        for title in ("op", "path", "format", *(f"{bit:+d} bits" for bit in bits)):
            table.add_column(title, justify="right" if title.endswith("bits") else "left")
        for row in self.sensitivity:
            table.add_row(row.op, row.path, row.format, *(f"{row.errors[bit]:.2e}" for bit in bits))
        return Shown(points, table)


def _measured(row: Mapping[str, Any], network: Network) -> Point:
    """Return a row of a comparison as a point, per item.

    If a run counts no rounds, its messages take their place, as an upper bound. Raises InputError for a row
    of another kind.
    """
    try:
        items, sent = row["items"], row["bytes_sent_per_party"]
        rounds = row["rounds"] if row["rounds"] is not None else max(row["messages_per_party"])
        return Point(
            name=row["config"],
            seconds=predicted_seconds(network, 0.0, [round(sum(sent) / 3)], rounds) / items,
            megabytes=sum(sent) / 3e6 / items,
            rounds=rounds // items,
            max_abs_error=row["max_abs_error"],
            mean_abs_error=row["mean_abs_error"],
            cosine=row["cosine"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"a row of the comparison is not one of `ditto compare --json` ({error!r})"
        ) from None


def _figures(point: Point) -> str:
    return (
        f"{point.megabytes:.2f} MB a party, {point.rounds} rounds, error {point.max_abs_error:.2g} at most, "
        f"{point.mean_abs_error:.2g} mean"
    )
