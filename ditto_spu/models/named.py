"""What a named model is: a function with example arguments, built only when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder


@dataclass(frozen=True)
class Program:
    """`fn(*args)` is the plaintext model; `public` and `owner` are as in `secure`.

    The first `weights` arguments are the model's: a server holds them for all requests. `examples` are
    arguments of other calls, of the same shapes.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    public: tuple[str, ...] = ()
    weights: int = 0
    examples: tuple[tuple[Any, ...], ...] = ()
    owner: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """Who owns and who may know what, as options of `secure`."""
        return {"public": self.public, "owner": self.owner}

    @property
    def calls(self) -> tuple[tuple[Any, ...], ...]:
        """All example calls, for calibration."""
        return (self.args, *self.examples)

    @property
    def held(self) -> dict[str, Any]:
        """The weights by name."""
        return dict(zip(inspect.signature(self.fn).parameters, self.args[: self.weights], strict=False))

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The arguments of one request."""
        return self.args[self.weights :]


@dataclass(frozen=True)
class Text:
    """A decoder, its parameters and a prompt [batch, length] to go on from."""

    decoder: Decoder
    params: Any
    prompt: NDArray[np.int64]


@dataclass(frozen=True)
class NamedModel:
    """A name on the command line. `build` imports and initialises what it needs; nothing before does.

    parameters: how many numbers its weights are. load: builds it from a folder that `save_pretrained` wrote.
    outline: builds it with shapes in the place of arrays, where arrays would take long to make. text: of
    models that generate.
    """

    name: str
    description: str
    build: Callable[[], Program]
    source: str
    parameters: int = 0
    load: Callable[[Path], Program] | None = None
    outline: Callable[[], Program] | None = None
    text: Callable[[], Text] | None = None

    def program(self, weights: Path | None = None) -> Program:
        """The model with its own weights, or with those of a checkpoint on disk."""
        if weights is None:
            return self.build()
        if self.load is None:
            raise InputError(f"model '{self.name}' takes no weights from disk: leave --weights out")
        return self.load(weights)

    def shapes(self) -> Program:
        """Enough to compile it."""
        return self.build() if self.outline is None else self.outline()
