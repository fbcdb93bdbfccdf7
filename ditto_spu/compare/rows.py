"""The rows of a comparison: one way of running a function each, timed and held against plaintext."""

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
    """(the outputs' arrays, the row) of a compiled function."""
    fn(*args, **kwargs)  # compiles
    started = time.perf_counter()
    outputs = [np.asarray(each) for each in jax.tree_util.tree_leaves(fn(*args, **kwargs))]
    return outputs, ComparisonRow(config=PLAINTEXT, seconds=time.perf_counter() - started)


def emulated_row(lowered: Lowered, values: list[Any], expected: Sequence[Any]) -> ComparisonRow:
    """The program with its roundings, in plaintext."""
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
    """A run among three parties, its offline part included."""
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
    """The baseline on stock SPU."""
    from ditto_spu.compare.puma import run_puma  # imports spu's processes: only for whoever compares

    result = run_puma(fn, args, kwargs, **options)
    return ComparisonRow(
        config=PUMA,
        seconds=result.seconds,
        bytes_sent_per_party=result.bytes_sent_per_party,
        messages_per_party=result.messages_per_party,
        note="stock SPU; messages bound the rounds",
        **accuracy(jax.tree_util.tree_leaves(result.outputs), expected),
    )
