"""Run the training loop: stages on optax, with validation, early stopping and checkpoints.

A run that resumes from a checkpoint continues exactly as if it had not been interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from ditto_spu.distill.checkpoint import Checkpoints
from ditto_spu.distill.settings import Training
from ditto_spu.distill.task import Examples, batch_at, whole_batches
from ditto_spu.distill.weights import Flat, divide
from ditto_spu.errors import InputError

# (all weights, constants, inputs of a batch, labels) -> (loss, other figures)
Loss = Callable[[Flat, Any, Sequence[Any], Any], tuple[jax.Array, dict[str, jax.Array]]]
Progress = Callable[[str, int, int, Mapping[str, float]], None]  # stage, step, steps, latest figures


@dataclass(frozen=True)
class Stage:
    """A number of steps that minimise one loss.

    The loss receives `constants`, such as a teacher's weights, with every batch.
    """

    name: str
    steps: int
    learning_rate: float
    loss: Loss = field(compare=False)
    constants: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Trained:
    """The trained weights by path, and one row of figures for every validation."""

    weights: Flat
    history: tuple[dict[str, Any], ...]


@dataclass
class _State:
    """The state of a run, as a checkpoint holds it."""

    trainable: Flat
    optimiser: Any
    best: Flat
    stage: int = 0
    step: int = 0
    best_loss: float = float("inf")
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    stages: Sequence[Stage],
    weights: Flat,
    data: Examples,
    validation: Examples,
    settings: Training,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Run the stages one after the other. Each starts from the best weights of the one before.

    folder: where to write checkpoints. If None, none are written.
    resume: continue from the last checkpoint there, if there is one.

    Raises InputError if every weight is frozen, if a figure is not finite, or if the folder holds checkpoints
    that do not fit.
    """
    stages = [each for each in stages if each.steps]
    trainable, frozen = divide(weights, settings.frozen)
    if not trainable:
        raise InputError("nothing is left to train: every weight is frozen")
    trainable = {path: jax.numpy.asarray(value) for path, value in trainable.items()}
    checkpoints = None if folder is None else Checkpoints(folder, resume)
    state = _State(trainable, None, trainable)
    if stages:
        state.optimiser = _optimiser(stages[0], settings).init(trainable)
        if checkpoints is not None:
            state = _restored(checkpoints, state, stages, settings)
    while state.stage < len(stages):
        _run_stage(stages, state, frozen, data, validation, settings, checkpoints, progress)
    if checkpoints is not None:
        checkpoints.close()
    return Trained({**frozen, **jax.device_get(state.best)}, tuple(state.history))


def _run_stage(
    stages: Sequence[Stage],
    state: _State,
    frozen: Flat,
    data: Examples,
    validation: Examples,
    settings: Training,
    checkpoints: Checkpoints | None,
    progress: Progress | None,
) -> None:
    stage, optimiser = stages[state.stage], _optimiser(stages[state.stage], settings)
    update, measure = _steps(stage, optimiser)
    still = {path: jax.numpy.asarray(value) for path, value in frozen.items()}
    figures: dict[str, float] = {}
    if state.step == 0:
        figures = _validated(measure, state.trainable, still, stage, validation, settings.batch)
        state.history.append({"stage": stage.name, "step": 0, **figures})
        state.best_loss, state.best = figures["validation_loss"], state.trainable
    losses: list[float] = []
    started = time.monotonic()
    while state.step < stage.steps and state.waited < settings.patience:
        batch = batch_at(data, state.step, settings.batch, settings.seed)
        state.trainable, state.optimiser, loss = update(
            state.trainable, state.optimiser, still, stage.constants, batch.inputs, batch.labels
        )
        state.step += 1
        losses.append(float(loss))  # waits for the step, so that progress counts finished steps
        if state.step % settings.evaluate_every == 0 or state.step == stage.steps:
            figures = _validated(measure, state.trainable, still, stage, validation, settings.batch)
            figures["loss"] = float(np.mean(losses))
            _refuse_nan(stage, state.step, figures)
            seconds = (time.monotonic() - started) / len(losses)
            state.history.append(
                {"stage": stage.name, "step": state.step, **figures, "seconds_a_step": seconds}
            )
            losses, started = [], time.monotonic()
            if figures["validation_loss"] < state.best_loss:
                state.best_loss, state.best, state.waited = figures["validation_loss"], state.trainable, 0
            else:
                state.waited += 1
            if checkpoints is not None:
                _save(checkpoints, state)
        if progress is not None:
            progress(stage.name, state.step, stage.steps, figures)
    state.trainable = state.best
    state.stage, state.step, state.best_loss, state.waited = state.stage + 1, 0, float("inf"), 0
    if state.stage < len(stages):
        state.optimiser = _optimiser(stages[state.stage], settings).init(state.trainable)


def _steps(stage: Stage, optimiser: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return two compiled functions: one step of training, and the figures of a batch."""

    def loss(trainable: Flat, still: Flat, constants: Any, inputs: Any, labels: Any) -> Any:
        return stage.loss({**still, **trainable}, constants, inputs, labels)

    @jax.jit
    def update(
        trainable: Flat, optimiser_state: Any, still: Flat, constants: Any, inputs: Any, labels: Any
    ) -> Any:
        (value, _), slope = jax.value_and_grad(loss, has_aux=True)(
            trainable, still, constants, inputs, labels
        )
        updates, optimiser_state = optimiser.update(slope, optimiser_state, trainable)
        return optax.apply_updates(trainable, updates), optimiser_state, value

    return update, jax.jit(loss)


def _validated(
    measure: Any, trainable: Flat, still: Flat, stage: Stage, data: Examples, batch: int
) -> dict[str, float]:
    """Return the mean of every figure over the validation examples.

    Each batch has the weight of the number of its examples.
    """
    sums: dict[str, float] = {}
    total = 0
    for rows, count in whole_batches(data, batch):
        loss, others = measure(trainable, still, stage.constants, rows.inputs, rows.labels)
        for name, value in {"validation_loss": loss, **others}.items():
            sums[name] = sums.get(name, 0.0) + float(value) * count
        total += count
    return {name: value / total for name, value in sums.items()}


def _optimiser(stage: Stage, settings: Training) -> Any:
    warm = max(1, int(settings.warmup * stage.steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, stage.learning_rate, warm, max(stage.steps, warm + 1))
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(rate, weight_decay=settings.weight_decay),
    )


def _refuse_nan(stage: Stage, step: int, figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        if not np.isfinite(value):
            raise InputError(
                f"stage '{stage.name}', step {step}: {name} is {value}: take a smaller learning rate than "
                f"{stage.learning_rate:g}"
            )


def _save(checkpoints: Checkpoints, state: _State) -> None:
    arrays = {"trainable": state.trainable, "optimiser": state.optimiser, "best": state.best}
    facts = {name: getattr(state, name) for name in ("stage", "step", "best_loss", "waited", "history")}
    checkpoints.save(arrays, facts)


def _restored(checkpoints: Checkpoints, state: _State, stages: Sequence[Stage], settings: Training) -> _State:
    arrays = {"trainable": state.trainable, "optimiser": state.optimiser, "best": state.best}
    plan = {"settings": repr(settings), "stages": [(each.name, each.steps) for each in stages]}
    found = checkpoints.restore(arrays, plan)
    if found is None:
        return state
    kept, facts = found
    return _State(kept["trainable"], kept["optimiser"], kept["best"], **facts)
