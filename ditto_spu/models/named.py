"""Define a named model: a function with example arguments, built only on demand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.tokenizer import Tokenizer
from ditto_spu.diffusion.denoiser import Denoiser
from ditto_spu.diffusion.schedule import Schedule
from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder


@dataclass(frozen=True)
class Program:
    """A plaintext model `fn(*args)`, with `public` and `owner` as in `secure`.

    The first `weights` arguments are the model's weights, which a server holds for all requests. `examples`
    are the arguments of further calls, of the same shapes.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    public: tuple[str, ...] = ()
    weights: int = 0
    examples: tuple[tuple[Any, ...], ...] = ()
    owner: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Return who owns and who may know each argument, as options of `secure`."""
        return {"public": self.public, "owner": self.owner}

    @property
    def calls(self) -> tuple[tuple[Any, ...], ...]:
        """Return the arguments of all example calls, for calibration."""
        return (self.args, *self.examples)

    @property
    def held(self) -> dict[str, Any]:
        """Return the weights by argument name."""
        return dict(zip(inspect.signature(self.fn).parameters, self.args[: self.weights], strict=False))

    @property
    def inputs(self) -> tuple[Any, ...]:
        """Return the arguments of one request."""
        return self.args[self.weights :]


@dataclass(frozen=True)
class Text:
    """A decoder, its parameters, a prompt [batch, length] to continue, and the tokenizer of a checkpoint."""

    decoder: Decoder
    params: Any
    prompt: NDArray[np.int64]
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Pictures:
    """A diffusion model, its parameters, and the pictures [height, width, channels] that it draws.

    classes: how many classes of pictures a label may ask for. 0 for a model without labels.
    """

    denoiser: Denoiser
    params: Any
    shape: tuple[int, int, int]
    schedule: Schedule
    classes: int


@dataclass(frozen=True)
class NamedModel:
    """A model with a name on the command line.

    build: builds the model. It imports and initialises all that the model needs; nothing does so earlier.
    parameters: the number of values in its weights.
    load: builds it from a checkpoint on disk.
    outline: builds it with shapes in the place of arrays. It is set where arrays would take long to make.
    text: returns decoder and prompt, of a checkpoint if it gets one. It is set for models that generate.
    pictures: returns the model as a sampler takes it. It is set for diffusion models.
    """

    name: str
    description: str
    build: Callable[[], Program]
    source: str
    parameters: int = 0
    load: Callable[[Path], Program] | None = None
    outline: Callable[[], Program] | None = None
    text: Callable[[Path | None], Text] | None = None
    pictures: Callable[[], Pictures] | None = None

    def program(self, weights: Path | None = None) -> Program:
        """Build the model with its own weights, or with those of a checkpoint on disk.

        Raises InputError if it takes no weights from disk.
        """
        if weights is None:
            return self.build()
        if self.load is None:
            raise InputError(f"model '{self.name}' takes no weights from disk: leave --weights out")
        return self.load(weights)

    def shapes(self) -> Program:
        """Build enough of the model to compile it."""
        return self.build() if self.outline is None else self.outline()
