"""Measure the accuracy of a trained classifier in float, in emulation and among three parties.

The outputs of the three parties are compared with the emulation and with the error bound.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from ditto_spu.api import ConfigSource, SecureFunction, secured
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.distill.task import Examples, whole_batches
from ditto_spu.emulation.error_bound import error_bound
from ditto_spu.errors import InputError

Logits = NDArray[np.float32]
Progress = Callable[[str, int, int], None]  # what runs, how many examples are done, of how many


@dataclass(frozen=True)
class Evaluation:
    """Accuracies and costs on `count` examples. A figure is None if nothing was run for it.

    accuracy: the fraction of right answers of each way of running the model.
    same_predictions, max_error, mean_error: the three parties' outputs compared with the emulation.
    bound_worst, bound_independent: the largest `error_bound` of the first `bound_count` examples.
    within_worst: the fraction of their outputs whose error lies within its worst-case bound.
    largest_share_of_independent: the largest ratio of an output's error to its independent bound.
    """

    config: str
    count: int
    accuracy: dict[str, float] = field(default_factory=dict)
    megabytes: float | None = None  # sent per party for a call with one example, derived from the plan
    rounds: int | None = None
    secure_count: int = 0
    same_predictions: float | None = None
    max_error: float | None = None
    mean_error: float | None = None
    seconds_an_example: float | None = None
    megabytes_an_example: float | None = None  # counted during the batched runs
    bound_count: int = 0
    bound_worst: float | None = None
    bound_independent: float | None = None
    within_worst: float | None = None
    largest_share_of_independent: float | None = None

    def as_dicts(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def __rich__(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("figure")
        table.add_column(self.config, justify="right")
        for name, value in self.accuracy.items():
            table.add_row(f"accuracy, {name}", f"{100 * value:.2f} %")
        for name, number in asdict(self).items():
            if name not in ("config", "accuracy") and number is not None and (number or "count" not in name):
                table.add_row(name.replace("_", " "), f"{number:.4g}")
        return table


def evaluate(
    fn: Callable[..., Any],
    params: Mapping[str, Any],
    data: Examples,
    config: ConfigSource,
    *,
    reference: Mapping[str, Any] | None = None,
    secure: int = 0,
    bounds: int = 0,
    batch: int = 32,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluation:
    """Run `fn(params, *inputs)`, which returns logits [batch, classes], on all examples.

    data: examples with labels; without labels an InputError is raised.
    reference: weights of a float model whose accuracy is reported as well.
    secure: how many examples three parties compute as well.
    bounds: for how many of these examples the error bound is computed.
    batch: examples per call.
    calibration: it is checked against the plan's ranges.
    options: those of `secure`.
    """
    if data.labels is None:
        raise InputError("an evaluation needs labels: give Examples(inputs, labels)")
    if bounds > secure:
        raise InputError(f"bounds are computed for secure examples: {bounds} of {secure} is not possible")
    say = progress or (lambda what, done, of: None)
    function = secured(fn, config=config, calibration=calibration, **options)
    weights = dict(params)
    one = function.lower(weights, *data.head(1).inputs)
    accuracy: dict[str, float] = {}
    if reference is not None:
        given = dict(reference)
        plain = jax.jit(fn)
        accuracy["float reference"] = _share(
            _run("float", lambda x: plain(given, *x), data, batch, say), data
        )
    lowered = function.lower(weights, *data.rows(np.zeros(batch, np.intp)).inputs)
    emulated = _run(
        "emulated", lambda x: lowered.emulate(jax.tree_util.tree_leaves((weights, *x)))[0], data, batch, say
    )
    accuracy["emulated"] = _share(emulated, data)
    cost = one.cost_analysis()
    found: dict[str, Any] = {"megabytes": sum(cost.bytes_sent_per_party) / 3e6, "rounds": cost.rounds}
    if secure:
        rows = data.head(secure)
        real, figures = _secure(function, weights, rows, batch, say)
        accuracy["three parties"] = _share(real, rows)
        apart = np.abs(real - emulated[: len(rows)])
        found |= figures | {
            "secure_count": len(rows),
            "same_predictions": float(np.mean(real.argmax(-1) == emulated[: len(rows)].argmax(-1))),
            "max_error": float(apart.max()),
            "mean_error": float(apart.mean()),
        }
        if bounds:
            found |= _bounds(one, weights, rows.head(bounds), apart, say)
    return Evaluation(one.config.name, len(data), accuracy, **found)


def _run(
    what: str, call: Callable[[tuple[Any, ...]], Any], data: Examples, batch: int, say: Progress
) -> Logits:
    logits = []
    for rows, count in whole_batches(data, batch):
        logits.append(np.asarray(call(rows.inputs))[:count])
        say(what, len(logits) * batch, len(data))
    return np.concatenate(logits)


def _share(logits: Logits, data: Examples) -> float:
    assert data.labels is not None
    return float(np.mean(logits.argmax(-1) == data.labels))


def _secure(
    function: SecureFunction, weights: dict[str, Any], data: Examples, batch: int, say: Progress
) -> tuple[Logits, dict[str, float]]:
    """Return the logits of real three-party runs, and their seconds and megabytes per example.

    The first argument of the function is held.
    """
    held = function.hold(**{next(iter(inspect.signature(function).parameters)): weights})
    seconds: list[float] = []
    sent: list[float] = []

    def call(inputs: tuple[Any, ...]) -> Any:
        started = time.monotonic()
        result = held.run(*inputs)
        seconds.append(time.monotonic() - started)
        sent.append(sum(result.report.bytes_sent_per_party) / 3)
        return result.outputs

    logits = _run("three parties", call, data, batch, say)
    figures = {
        "seconds_an_example": float(np.median(seconds)) / batch,
        "megabytes_an_example": float(np.median(sent)) / batch / 1e6,
    }
    return logits, figures


def _bounds(
    one: Any, weights: dict[str, Any], data: Examples, apart: Logits, say: Progress
) -> dict[str, Any]:
    bound, worst, independent = error_bound(one), [], []
    for number in range(len(data)):
        found = bound(jax.tree_util.tree_leaves((weights, *data.rows(slice(number, number + 1)).inputs)))
        worst.append(found.worst[0])
        independent.append(found.independent[0])
        say("bounds", number + 1, len(data))
    apart = apart[: len(data)]
    return {
        "bound_count": len(data),
        "bound_worst": float(np.max(worst)),
        "bound_independent": float(np.max(independent)),
        "within_worst": float(np.mean(apart <= np.array(worst))),
        "largest_share_of_independent": float(np.max(apart / np.array(independent))),
    }
