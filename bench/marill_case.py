"""Compare BERT-base with all weights secret with Marill's recipe (`--case marill`).

The recipe is measured by its parts and by the number of frozen layers. Each side takes turns with the first
one. Time is wall-clock from the client's arrays to its outputs, so the client's work in plaintext counts.
Weights are held.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from ditto_spu import secure
from ditto_spu.api import Result, SecureFunction
from ditto_spu.compare.table import accuracy
from ditto_spu.models.marill import encoder
from ditto_spu.models.named import Program

SMALL = {"sequence": 8, "hidden_size": 32, "num_attention_heads": 4}
BASE = {"num_attention_heads": 12}


@dataclass(frozen=True)
class _Side:
    """A model, and who knows which part of it."""

    name: str
    frozen: int
    build: Callable[[], Program]
    public: tuple[str, ...] = ("base",)
    owner: Mapping[str, str] | None = None

    def function(self, config: str) -> tuple[SecureFunction, Program]:
        program = self.build()
        owner = program.owner if self.owner is None else self.owner
        function = secure(program.fn, config=config, public=self.public, owner=owner, check=False)
        return function.hold(**program.held), program


def _sides(layers: int, heads: int, sizes: Mapping[str, Any]) -> list[_Side]:
    half, every = layers // 2, sizes["num_attention_heads"]
    build = partial(encoder, layers, **sizes)
    secret = {"base.tuned": "server", "adapters": "server", "hidden": "client"}
    sides = [
        _Side("all secret", 0, partial(build, 0, heads=every, adapted=()), (), {}),
        _Side("frozen", half, partial(build, half, heads=every, adapted=()), ("base.frozen",), secret),
        _Side("frozen, LoRA", half, partial(build, half, heads=every)),
    ]
    for frozen in sorted({half, 0, layers // 4, 3 * layers // 4}, key=lambda each: (each != half, each)):
        sides.append(_Side("recipe", frozen, partial(build, frozen, heads=heads)))
    return sides


def marill_rows(config: str, repeat: int, say: Callable[[str], None], small: bool) -> list[dict[str, Any]]:
    """Return one row per side: medians of its seconds and of its ratio to the first side.

    A ratio is the first side's seconds over its own in the same turn.
    """
    first, *others = _sides(4, 2, SMALL) if small else _sides(12, 3, BASE)
    baseline, program = first.function(config)
    _run(baseline, program)  # compiles, and shares the weights
    times = [_run(baseline, program)]
    rows = [_row(first, config, [(each, each) for each in times], program)]
    for side in others:
        function, theirs = side.function(config)
        _run(function, theirs)
        turns = []
        for turn in range(repeat):
            turns.append((_run(function, theirs), _run(baseline, program)))
            ours, beside = (f"{each.seconds:.3f} s ({each.cpu:.2f} of processors)" for each in turns[-1])
            place = f"{side.name}, {side.frozen} frozen, run {turn + 1} of {repeat}"
            say(f"marill: {place}: {ours}, all secret {beside}")
        times += [each for _, each in turns]
        rows.append(_row(side, config, turns, theirs))
        rows[-1]["bytes_ratio"] = sum(rows[0]["bytes_sent_per_party"]) / sum(rows[-1]["bytes_sent_per_party"])
    for name in ("seconds", "cpu"):
        rows[0][name] = statistics.median(getattr(each, name) for each in times)
    return rows


@dataclass(frozen=True)
class _Timed:
    """One request: its wall-clock seconds, and the seconds of all processors."""

    seconds: float
    cpu: float
    result: Result


def _run(function: SecureFunction, program: Program) -> _Timed:
    started, used = time.perf_counter(), time.process_time()
    result = function.run(*program.inputs)
    return _Timed(time.perf_counter() - started, time.process_time() - used, result)


def _row(side: _Side, config: str, turns: list[tuple[_Timed, _Timed]], program: Program) -> dict[str, Any]:
    result = turns[-1][0].result
    expected = jax.tree_util.tree_leaves(jax.jit(program.fn)(*program.args))
    errors = accuracy(jax.tree_util.tree_leaves(result.outputs), [np.asarray(each) for each in expected])
    return {
        "case": "marill",
        "config": config,
        "side": side.name,
        "frozen": side.frozen,
        "seconds": statistics.median(own.seconds for own, _ in turns),
        "cpu": statistics.median(own.cpu for own, _ in turns),
        "party_seconds": statistics.median(own.result.report.seconds for own, _ in turns),
        "ratio": statistics.median(beside.seconds / own.seconds for own, beside in turns),
        "cpu_ratio": statistics.median(beside.cpu / own.cpu for own, beside in turns),
        "bytes_ratio": 1.0,
        "bytes_sent_per_party": result.report.bytes_sent_per_party,
        "rounds": result.report.rounds,
        **errors,
    }


def marill_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return one line per row."""
    lines = []
    for row in rows:
        megabytes = sum(row["bytes_sent_per_party"]) / 3e6
        seconds = f"{row['seconds']:7.3f} s  {row['ratio']:5.2f} x"
        cpu = f"{row['cpu']:7.3f} s of processors  {row['cpu_ratio']:5.2f} x"
        sent = f"{megabytes:8.2f} MB  {row['bytes_ratio']:5.2f} x  {row['rounds']:>4} rounds"
        name = f"{row['side']:<13} {row['frozen']:>2} frozen"
        lines.append(f"marill: {name}  {seconds}  {cpu}  {sent}  max error {row['max_abs_error']:.4f}")
    return lines
