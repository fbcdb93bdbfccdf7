"""`--case marill`: BERT-base with all weights secret beside Marill's recipe, by parts and frozen layers.

Each side is timed in turns with the first one, wall-clock from the client's arrays to its outputs, so that
what the client computes in plaintext counts. Weights are held.
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
from ditto_spu.api import SecureFunction
from ditto_spu.comparison import accuracy
from ditto_spu.models.marill import encoder
from ditto_spu.models.named import Program

SMALL = {"sequence": 8, "hidden_size": 32, "num_attention_heads": 4}
BASE = {"num_attention_heads": 12}


@dataclass(frozen=True)
class _Side:
    """A model, and who knows what of it."""

    name: str
    frozen: int
    build: Callable[[], Program]
    public: tuple[str, ...] = ("base",)
    owner: Mapping[str, str] | None = None

    def function(self, config: str) -> tuple[SecureFunction, Program]:
        program = self.build()
        owner = program.owner if self.owner is None else self.owner
        function = secure(program.fn, config=config, public=self.public, owner=owner)
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
    """A row a side: medians of its seconds, and of the ratio to the first side in the same turn."""
    first, *others = _sides(4, 2, SMALL) if small else _sides(12, 3, BASE)
    baseline, program = first.function(config)
    _run(baseline, program)
    rows = [_row(first, config, [], *_run(baseline, program)[1:])]
    timed: list[float] = []
    for side in others:
        function, theirs = side.function(config)
        _run(function, theirs)  # compiles, shares the weights
        turns = []
        for turn in range(repeat):
            ours = _run(function, theirs)
            beside = _run(baseline, program)
            turns.append((ours[0], beside[0]))
            say(
                f"marill: {side.name}, {side.frozen} frozen, run {turn + 1} of {repeat}: "
                f"{ours[0]:.3f} s, all secret {beside[0]:.3f} s"
            )
        timed += [each for _, each in turns]
        rows.append(_row(side, config, turns, *ours[1:]))
        rows[-1]["bytes_ratio"] = sum(rows[0]["bytes_sent_per_party"]) / sum(rows[-1]["bytes_sent_per_party"])
    rows[0]["seconds"] = statistics.median(timed)
    return rows


def _run(function: SecureFunction, program: Program) -> tuple[float, Any, dict[str, float]]:
    started = time.perf_counter()
    result = function.run(*program.inputs)
    seconds = time.perf_counter() - started
    expected = jax.tree_util.tree_leaves(program.fn(*program.args))
    outputs = jax.tree_util.tree_leaves(result.outputs)
    return seconds, result.report, accuracy(outputs, [np.asarray(each) for each in expected])


def _row(
    side: _Side, config: str, turns: list[tuple[float, float]], report: Any, errors: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "case": "marill",
        "config": config,
        "side": side.name,
        "frozen": side.frozen,
        "seconds": statistics.median([each for each, _ in turns]) if turns else report.seconds,
        "party_seconds": report.seconds,
        "ratio": statistics.median([beside / own for own, beside in turns]) if turns else 1.0,
        "bytes_ratio": 1.0,
        "bytes_sent_per_party": report.bytes_sent_per_party,
        "rounds": report.rounds,
        **errors,
    }


def marill_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line a row."""
    lines = []
    for row in rows:
        megabytes = sum(row["bytes_sent_per_party"]) / 3e6
        lines.append(
            f"marill: {row['side']:<13} {row['frozen']:>2} frozen  {row['seconds']:7.3f} s  "
            f"{row['ratio']:5.2f} x  {megabytes:8.2f} MB  {row['bytes_ratio']:5.2f} x  {row['rounds']:>4} "
            f"rounds  max error {row['max_abs_error']:.4f}"
        )
    return lines
