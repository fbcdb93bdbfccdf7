"""Train a float model on labels: it becomes the teacher of a distillation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ditto_spu.distill.settings import FineTuning
from ditto_spu.distill.task import Examples
from ditto_spu.distill.training import Progress, Stage, Trained, train
from ditto_spu.distill.weights import Flat, flatten, unflatten
from ditto_spu.errors import InputError


def finetune(
    fn: Callable[..., Any],
    params: Mapping[str, Any],
    data: Examples,
    validation: Examples,
    settings: FineTuning | None = None,
    *,
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train `fn(params, *inputs)`, which returns logits [batch, classes], on the labels of `data`.

    The loss is the cross-entropy. `folder` and `resume` are as in `train`. Raises InputError if `data` or
    `validation` has no labels.
    """
    settings = settings or FineTuning()
    if data.labels is None or validation.labels is None:
        raise InputError("fine-tuning needs labels: give Examples(inputs, labels)")

    def loss(weights: Flat, constants: Any, inputs: Any, labels: Any) -> Any:
        del constants
        logits = fn(unflatten(weights), *inputs)
        value = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
        return value, {"accuracy": accuracy(logits, labels)}

    stages = [Stage("labels", settings.label_steps, settings.label_rate, loss)]
    return train(
        stages, flatten(params), data, validation, settings, folder=folder, resume=resume, progress=progress
    )


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the fraction of rows whose largest logit is that of the label."""
    return jnp.mean((jnp.argmax(logits, -1) == labels).astype(jnp.float32))
