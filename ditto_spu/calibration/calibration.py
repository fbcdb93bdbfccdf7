"""A calibration: the values that each operation of a program takes, kept as readable JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ditto_spu.calibration.identity import Key, identities
from ditto_spu.calibration.observe import Observer
from ditto_spu.calibration.summary import Observed, summary
from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import Traced
from ditto_spu.ops.decision import Nth
from ditto_spu.passes.pipeline import advance, begin
from ditto_spu.plan.printed import printed
from ditto_spu.rules.rule import INPUT, Config

VERSION = 2
PERCENTILES = (50.0, 99.0, 99.9)


@dataclass(frozen=True)
class Observation:
    """The values of one operation, or of one argument.

    path, op: the path, and the op of the rules.
    nth: which one of those of its kind at the path it is.
    near: its near digest, '' for an argument (see `identity`).
    exact: its exact digests in the programs that were observed.
    seen: the values.
    """

    path: str
    op: str
    nth: Nth | None
    near: str
    exact: tuple[str, ...]
    seen: Observed

    @property
    def key(self) -> Key:
        """What it has in common with observations of the same operation in calls of other shapes."""
        return self.path, self.op, self.near


@dataclass(frozen=True)
class Calibration:
    """The result of `calibrate`.

    function: the name of the function.
    batches: the number of calls.
    arguments: digests of the types of arguments for which calls were observed.
    observations: the observed values of each argument and each operation.
    """

    function: str
    batches: int
    arguments: tuple[str, ...]
    observations: tuple[Observation, ...]

    @cached_property
    def values(self) -> Mapping[tuple[str, str], Observed]:
        """The observed values by path and op, joined where one path has several operations of a kind."""
        found: dict[tuple[str, str], Observed] = {}
        for each in self.observations:
            place = each.path, each.op
            found[place] = found[place] + each.seen if place in found else each.seen
        return found

    def at(self, path: str, op: str) -> Observed | None:
        """Return the values observed at a path for an op of the rules, such as "matmul", or None."""
        return self.values.get((path, op))

    @property
    def massive(self) -> tuple[Observation, ...]:
        """Return the operations with massive values: a few that are far larger than all others."""
        return tuple(each for each in self.observations if each.op != INPUT and each.seen.massive)

    def save(self, path: str | Path) -> None:
        """Write JSON to a file, with one line per operation. So calibrations can be compared as text.

        `load_calibration` reads it.
        """
        head = {
            "version": VERSION,
            "function": self.function,
            "batches": self.batches,
            "arguments": list(self.arguments),
        }
        lines = ",\n  ".join(json.dumps(each) for each in self.as_dicts())
        text = json.dumps(head)[:-1] + f',\n "values": [\n  {lines}\n ]}}\n'
        Path(path).write_text(text, encoding="utf-8")

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return plain data for JSON, one entry per operation.

        In `histogram`, entry i counts the magnitudes in [2^(i/4), 2^((i+1)/4)).
        """
        return [
            {
                "path": each.path,
                "op": each.op,
                "nth": None if each.nth is None else str(each.nth),
                "near": each.near,
                "exact": list(each.exact),
                "least": each.seen.least,
                "most": each.seen.most,
                "count": each.seen.count,
                "percentiles": {f"{part:g}": each.seen.percentile(part) for part in PERCENTILES},
                "facts": {name: list(span) for name, span in each.seen.facts.items()},
                "histogram": {str(place): count for place, count in each.seen.histogram.items()},
            }
            for each in self.observations
        ]

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("path", "op", "least", "most", *(f"{each:g} %" for each in PERCENTILES), "also"):
            table.add_column(title, justify="left" if title in ("path", "op", "also") else "right")
        for each in self.observations:
            seen, op = each.seen, each.op if each.nth is None or each.nth.of == 1 else f"{each.op} {each.nth}"
            percentiles = [f"{seen.percentile(part):.4g}" for part in PERCENTILES]
            also = ", ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in seen.facts.items())
            table.add_row(each.path, op, f"{seen.least:.4g}", f"{seen.most:.4g}", *percentiles, also)
        table.caption = f"{self.function}: {self.batches} calls; percentiles are of magnitudes"
        if self.massive:
            table.caption += "\n" + _about_massive(self.massive)
        return table

    def __str__(self) -> str:
        return printed(self)


def _about_massive(found: Sequence[Observation]) -> str:
    """Say where massive values begin, and how large they get."""
    first, most = found[0], max(found, key=lambda each: each.seen.largest)
    below = first.seen.percentile(99)
    return (
        f"{len(found)} operations have massive values, first {first.op} at '{first.path}' "
        f"({first.seen.largest:.4g}; 99 % are below {below:.4g}), largest {most.op} at "
        f"'{most.path}' ({most.seen.largest:.4g}). A decoder often has them at the first token alone: "
        "a public prefix leaves them out"
    )


def collect(function: str, config: Config, calls: Iterable[tuple[Traced, list[Any]]]) -> Calibration:
    """Observe the traced calls of a function, and return one calibration of them all.

    Calls of other shapes are other programs, and each program gets its own observer. An argument that is the
    same object as in the last call, such as weights, is not counted again.

    config: only functions that it replaces (Quad, 2Quad, 2ReLU) matter.
    calls: each is a trace, and the arrays of its arguments.

    Raises InputError if there is no call.
    """
    programs: dict[str, _Program] = {}
    found = _Found()
    count = 0
    for traced, arrays in calls:
        count += 1
        if traced.module_text not in programs:
            programs[traced.module_text] = _Program(traced, config)
        programs[traced.module_text].observe(arrays, found)
    if not count:
        raise InputError("calibrate was given no batch: it needs at least one call's arguments")
    arguments = dict.fromkeys(each.operations.arguments for each in programs.values())
    return Calibration(function, count, tuple(arguments), tuple(found.rows.values()))


class _Found:
    """What was observed so far, by key and the rank among observations with that key."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Key, int], Observation] = {}
        self._arrays: dict[str, Any] = {}  # the arguments of the last call, by path

    def add(self, new: Observation, rank: int = 0) -> None:
        old = self.rows.get((new.key, rank))
        if old is not None:
            exact = tuple(dict.fromkeys((*old.exact, *new.exact)))
            new = replace(old, exact=exact, seen=old.seen + new.seen)
        self.rows[new.key, rank] = new

    def add_argument(self, path: str, value: Any) -> None:
        if self._arrays.get(path) is not value:
            seen = summary(np.asarray(value, np.float32))
            self.add(Observation(path, INPUT, None, "", (), seen))
            self._arrays[path] = value


class _Program:
    """A traced call with its observer."""

    def __init__(self, traced: Traced, config: Config) -> None:
        linear = advance(begin(traced), "linearise")
        self.operations = identities(linear)
        self._parts = linear.parts
        self._observer = Observer(linear, config)

    def observe(self, arrays: Sequence[Any], found: _Found) -> None:
        values = self._parts.values(arrays)
        for argument, value in zip(self._parts.arguments, values, strict=True):
            if not argument.public and np.issubdtype(np.dtype(argument.dtype), np.floating):
                found.add_argument(argument.path, value)
        seen = self._observer(values)
        met = Counter[Key]()
        for number, each in enumerate(self.operations.operations):
            if each is None:
                continue
            if number in seen:
                row = Observation(each.path, each.op, each.nth, each.near, (each.exact,), seen[number])
                found.add(row, met[each.key])
            met[each.key] += 1


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
        rows = tuple(_observation(row) for row in data["values"])
        return Calibration(data["function"], data["batches"], tuple(data["arguments"]), rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"calibration '{path}' is damaged ({error!r}): calibrate anew") from None


def _observation(row: Mapping[str, Any]) -> Observation:
    histogram = {int(place): int(count) for place, count in row["histogram"].items()}
    facts = {name: (float(low), float(high)) for name, (low, high) in row["facts"].items()}
    seen = Observed(float(row["least"]), float(row["most"]), int(row["count"]), histogram, facts)
    nth = None if row["nth"] is None else Nth.parse(row["nth"])
    return Observation(row["path"], row["op"], nth, row["near"], tuple(row["exact"]), seen)
