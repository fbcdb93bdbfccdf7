"""Define the interface of a diffusion model: one function of timesteps, and one of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ditto_spu.errors import InputError


@dataclass(frozen=True)
class Denoiser:
    """A diffusion model as two functions of static shapes.

    conditions(params, times) -> tables: everything that is made of weights and public timesteps [steps]
        alone, such as time embeddings. It is a pytree of arrays [steps, ...]. The owner of the weights
        computes it in plaintext, for all steps at once.
    predict(params, x, condition, labels) -> noise: the noise in pictures x [batch, height, width, channels].
        `condition` is the part of one step of the tables. `labels` are one-hot [batch, labels], or None.
    labels: how many labels there are. The last one stands for any class. 0 for a model without classes.
    """

    conditions: Callable[[Any, Any], Any]
    predict: Callable[..., Any]
    labels: int = 0


def denoiser_of(model: Any) -> Denoiser:
    """Return the denoiser that a user means.

    model: a `Denoiser`, an object with one in its attribute `denoiser` such as `UNet`, or a function
        `model(params, x, time)` of a model without classes, where `time` is a public number.
    Raises InputError for anything else.
    """
    if isinstance(model, Denoiser):
        return model
    found = getattr(model, "denoiser", None)
    if isinstance(found, Denoiser):
        return found
    if not callable(model):
        raise InputError(
            f"a diffusion model is a Denoiser, a UNet or a function of (params, x, time), not {model!r}"
        )
    return Denoiser(lambda params, times: times, lambda params, x, time, labels: model(params, x, time))
