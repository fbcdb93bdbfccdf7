"""Build the rows of a comparison.

Each row is one way of running a function, timed and compared with plaintext.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ditto_spu.compare.table import PLAINTEXT, PUMA, ComparisonRow, accuracy
from ditto_spu.compiler import Lowered
from ditto_spu.plan.cost_report import CostReport


def plaintext_row(fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[list[Any], ComparisonRow]:
    """Return the output arrays and the row of a compiled function."""
    fn(*args, **kwargs)  # compiles
    started = time.perf_counter()
    outputs = [np.asarray(each) for each in jax.tree_util.tree_leaves(fn(*args, **kwargs))]
    return outputs, ComparisonRow(config=PLAINTEXT, seconds=time.perf_counter() - started)


def emulated_row(lowered: Lowered, values: list[Any], expected: Sequence[Any]) -> ComparisonRow:
    """Return the row of the program with its roundings, run in plaintext."""
    lowered.emulate(values)  # compiles
    started = time.perf_counter()
    outputs = lowered.emulate(values)
    return ComparisonRow(
        config=f"{lowered.config.name}, emulated",
        seconds=time.perf_counter() - started,
        part_of=lowered.config.name,
        note="plaintext with the same roundings",
        **accuracy(outputs, expected),
    )


def measured_row(config: str, report: CostReport, outputs: Any, expected: Sequence[Any]) -> ComparisonRow:
    """Return the row of a run among three parties, with its offline phase included."""
    return ComparisonRow(
        config=config,
        seconds=report.seconds + report.offline_seconds,
        bytes_sent_per_party=report.bytes_sent_per_party,
        offline_bytes_sent_per_party=report.offline_bytes_sent_per_party,
        messages_per_party=report.messages_per_party,
        rounds=report.rounds,
        **accuracy(jax.tree_util.tree_leaves(outputs), expected),
    )


def puma_row(
    fn: Callable[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any], expected: Sequence[Any]
) -> ComparisonRow:
    """Run the baseline on stock SPU and return its row."""
    from ditto_spu.compare.puma import run_puma  # imports SPU, which only comparisons need

    result = run_puma(fn, args, kwargs, **options)
    return ComparisonRow(
        config=PUMA,
        seconds=result.seconds,
        bytes_sent_per_party=result.bytes_sent_per_party,
        messages_per_party=result.messages_per_party,
        note="stock SPU; messages bound the rounds",
        **accuracy(jax.tree_util.tree_leaves(result.outputs), expected),
    )
