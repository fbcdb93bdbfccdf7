"""Distil a float model into the secure program that will serve it.

The float program is the teacher. The student is the formats module that `secure` compiles for the
configuration. It contains the composites of the plan (Quad, 2Quad and so on) and every cast. The rounding of
a cast passes gradients straight through.

Stage 1 matches attention scores and hidden states layer by layer. Stage 2 matches the logits with a soft
cross-entropy (MPCFormer; Ditto, section 4). Values are never clipped. Values beyond a range are counted, and
a penalty pulls them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from ditto_kernels.values.formats import Fxp
from ditto_spu.api import ConfigSource, SecureFunction, secured
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.calibration.headroom import Range
from ditto_spu.compiler import Lowered
from ditto_spu.distill.finetune import accuracy
from ditto_spu.distill.settings import Distillation
from ditto_spu.distill.task import Examples
from ditto_spu.distill.training import Progress, Stage, train
from ditto_spu.distill.watched import Seen, Watched, require_points
from ditto_spu.distill.weights import Flat, flatten, unflatten
from ditto_spu.errors import InputError
from ditto_spu.rules.rule import Config

Batch = Sequence[Any]
ROOM = 2.0  # the penalty watches a range whose headroom is below this, in bits


@dataclass(frozen=True)
class Distilled:
    """The result of a distillation.

    params: the trained weights, as the function takes them.
    history: one row of figures for every validation.
    calibration: the ranges of the trained model. `secure(calibration=...)` checks it against every range of
        the plan.
    """

    params: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    calibration: Calibration


def distill(
    fn: Callable[..., Any],
    params: Mapping[str, Any],
    data: Examples,
    validation: Examples,
    config: ConfigSource,
    settings: Distillation | None = None,
    *,
    start: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Distilled:
    """Train `fn(params, *inputs)`, which returns logits [..., classes], for serving under a configuration.

    params: the teacher's weights, as nested dictionaries.
    data, validation: the other arguments, one row per example. Labels are used for the reported figures, and
        for training if `label_weight` is set.
    start: the student's first weights. If None, they are the teacher's.
    folder: where to write checkpoints. If None, none are written.
    resume: continue from the last checkpoint in the folder.
    options: those of `secure`, such as `public`.

    Raises InputError if labels or examples are missing, if stage 1 finds nothing to match, or if a figure is
    not finite.
    """
    settings = settings or Distillation()
    if settings.label_weight and data.labels is None:
        raise InputError("label_weight needs labels: give Examples(inputs, labels)")
    function = secured(fn, config=config, **options)
    first = data.head(settings.batch)
    if len(first) < settings.batch:
        raise InputError(f"a batch of {settings.batch} needs as many examples, but there are {len(data)}")
    start = dict(params if start is None else start)
    lowered = function.lower(start, *first.inputs)
    points = settings.points if settings.layer_steps else ()
    teacher = Watched(lowered.as_text("fused"), points)
    near = _near(fn, function, lowered, params, start, first, options) if settings.range_weight else []
    student = Watched(lowered.as_text("formats"), points, near, settings.range_fill)
    if settings.layer_steps:
        require_points(teacher, student)

    def run(program: Watched, weights: Flat, inputs: Batch) -> Seen:
        return program(jax.tree_util.tree_leaves((unflatten(weights), *inputs)))

    def layers(weights: Flat, constants: Flat, inputs: Batch, labels: Any) -> Any:
        wanted, found = run(teacher, constants, inputs), run(student, weights, inputs)
        apart = [
            relative_error(a, b, mask) for (a, mask), (b, _) in zip(found.points, wanted.points, strict=True)
        ]
        figures = _figures(found, wanted, labels)
        return jnp.mean(jnp.stack(apart)) + settings.range_weight * found.penalty, figures

    def outputs(weights: Flat, constants: Flat, inputs: Batch, labels: Any) -> Any:
        wanted, found = run(teacher, constants, inputs), run(student, weights, inputs)
        value = soft_cross_entropy(found.outputs[0], wanted.outputs[0], settings.temperature)
        if settings.label_weight:
            hard = optax.softmax_cross_entropy_with_integer_labels(found.outputs[0], labels)
            value += settings.label_weight * jnp.mean(hard)
        return value + settings.range_weight * found.penalty, _figures(found, wanted, labels)

    flat = flatten(params)
    constants = {path: jnp.asarray(value) for path, value in flat.items()}
    trained = train(
        [
            Stage("layers", settings.layer_steps, settings.layer_rate, layers, constants),
            Stage("outputs", settings.output_steps, settings.output_rate, outputs, constants),
        ],
        flatten(start),
        data,
        validation,
        settings,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    made = unflatten(trained.weights)
    calls = [
        (made, *validation.rows(slice(at, at + settings.batch)).inputs)
        for at in _starts(validation, settings)
    ]
    return Distilled(made, trained.history, function.calibrate(calls))


def _near(
    fn: Callable[..., Any],
    function: SecureFunction,
    lowered: Lowered,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
    data: Examples,
    options: Mapping[str, Any],
) -> list[Range]:
    """Return the ranges that the penalty watches.

    A range is watched if it has little room over the teacher's values, or if it is too small for the
    student's first values. Watching all ranges would double the cost of a step. The calibration checks all of
    them against the trained model.
    """
    plain = secured(fn, config=Config(name="float", default_format=Fxp(32, 12)), **options)
    wanted = lowered.ranges(plain.calibrate([(dict(teacher), *data.inputs)])).rows
    begun = lowered.ranges(function.calibrate([(dict(student), *data.inputs)])).rows
    return [
        row
        for row, first in zip(wanted, begun, strict=True)
        if (row.headroom is not None and row.headroom < ROOM)
        or (first.headroom is not None and first.headroom < 0)
    ]


def _starts(data: Examples, settings: Distillation) -> range:
    """Return the index at which each calibration batch starts.

    Batches are whole, unless there are too few examples for even one.
    """
    return range(0, max(1, len(data) - settings.batch + 1), settings.batch)


def relative_error(found: Array, wanted: Array, mask: Array | None = None) -> Array:
    """Return the mean squared error divided by the mean square of the wanted values.

    The division gives points of any size the same weight. With a mask, only the values that it keeps count.
    """
    if mask is None:
        return jnp.mean(jnp.square(found - wanted)) / jnp.mean(jnp.square(wanted))
    kept = jnp.broadcast_to(mask, wanted.shape)
    squares = [jnp.sum(jnp.where(kept, jnp.square(each), 0.0)) for each in (found - wanted, wanted)]
    return squares[0] / squares[1]


def soft_cross_entropy(found: Array, wanted: Array, temperature: float) -> Array:
    """Return the cross-entropy of two distributions, times the temperature squared.

    Both are given as logits [..., classes], which are divided by the temperature. `wanted` is the target.
    """
    target = jax.nn.softmax(wanted / temperature, axis=-1)
    return temperature**2 * jnp.mean(optax.softmax_cross_entropy(found / temperature, target))


def _figures(found: Seen, wanted: Seen, labels: Any) -> dict[str, Array]:
    """Return the figures of a batch.

    These are the agreement with the teacher, the number of values outside their ranges per example, and the
    accuracy if there are labels.
    """
    logits = found.outputs[0]
    figures = {
        "agreement": accuracy(logits, jnp.argmax(wanted.outputs[0], -1)),
        "outside": found.outside / logits.shape[0],
    }
    return figures if labels is None else figures | {"accuracy": accuracy(logits, labels)}
