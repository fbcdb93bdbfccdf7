"""A calibration: the values that a program takes, by path and op, kept as readable JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ditto_spu.calibration.observe import Observed, Observer, Place
from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import Traced
from ditto_spu.plan.printed import printed
from ditto_spu.rules.rule import Config

VERSION = 1
PERCENTILES = (50.0, 99.0, 99.9)


@dataclass(frozen=True)
class Calibration:
    """The result of `calibrate`.

    function: the name of the function.
    batches: the number of calls.
    values: the observed values of each place, which is a path and an op of the rules.
    """

    function: str
    batches: int
    values: Mapping[Place, Observed]

    def at(self, path: str, op: str) -> Observed | None:
        """Return the values observed at a path for an op of the rules, such as "matmul", or None."""
        return self.values.get((path, op))

    def save(self, path: str | Path) -> None:
        """Write JSON to a file, with one line per place. So two calibrations can be compared as text.

        `load_calibration` reads it.
        """
        head = {"version": VERSION, "function": self.function, "batches": self.batches}
        lines = ",\n  ".join(json.dumps(each) for each in self.as_dicts())
        text = json.dumps(head)[:-1] + f',\n "values": [\n  {lines}\n ]}}\n'
        Path(path).write_text(text, encoding="utf-8")

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return plain data for JSON, one entry per place.

        In `histogram`, entry i counts the magnitudes in [2^(i/4), 2^((i+1)/4)).
        """
        return [
            {
                "path": path,
                "op": op,
                "least": seen.least,
                "most": seen.most,
                "count": seen.count,
                "percentiles": {f"{each:g}": seen.percentile(each) for each in PERCENTILES},
                "facts": {name: list(span) for name, span in seen.facts.items()},
                "histogram": {str(place): count for place, count in seen.histogram.items()},
            }
            for (path, op), seen in self.values.items()
        ]

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("path", "op", "least", "most", *(f"{each:g} %" for each in PERCENTILES), "also"):
            table.add_column(title, justify="left" if title in ("path", "op", "also") else "right")
        for (path, op), seen in self.values.items():
            percentiles = [f"{seen.percentile(each):.4g}" for each in PERCENTILES]
            also = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in seen.facts.items())
            table.add_row(path, op, f"{seen.least:.4g}", f"{seen.most:.4g}", *percentiles, also)
        table.caption = f"{self.function}: {self.batches} calls; percentiles are of magnitudes"
        return table

    def __str__(self) -> str:
        return printed(self)


def collect(function: str, config: Config, calls: Iterable[tuple[Traced, list[Any]]]) -> Calibration:
    """Observe the traced calls of a function, and return one calibration of them all.

    Calls of other shapes are other programs, and each program gets its own observer.

    config: only functions that it replaces (Quad, 2Quad, 2ReLU) matter.
    calls: each is a trace, and the arrays of its arguments.

    Raises InputError if there is no call.
    """
    observers: dict[str, Observer] = {}
    values: dict[Place, Observed] = {}
    count = 0
    for traced, arrays in calls:
        count += 1
        if traced.module_text not in observers:
            observers[traced.module_text] = Observer(traced, config)
        for place, seen in observers[traced.module_text](arrays).items():
            values[place] = values[place] + seen if place in values else seen
    if not count:
        raise InputError("calibrate was given no batch: it needs at least one call's arguments")
    return Calibration(function, count, values)


def load_calibration(path: str | Path) -> Calibration:
    """Read the file that `Calibration.save` wrote.

    Raises InputError if it cannot be read, is damaged or has another version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"calibration '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"calibration '{path}' is not JSON: {error}") from None
    try:
        if data["version"] != VERSION:
            raise InputError(f"calibration '{path}' has version {data['version']}: calibrate anew")
        values = {(row["path"], row["op"]): _observed(row) for row in data["values"]}
        return Calibration(data["function"], data["batches"], values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"calibration '{path}' is damaged ({error!r}): calibrate anew") from None


def _observed(row: Mapping[str, Any]) -> Observed:
    histogram = {int(place): int(count) for place, count in row["histogram"].items()}
    facts = {name: (float(low), float(high)) for name, (low, high) in row["facts"].items()}
    return Observed(float(row["least"]), float(row["most"]), int(row["count"]), histogram, facts)
