"""What a named model is: a function with example arguments, built only when asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.decoder import Decoder


@dataclass(frozen=True)
class Program:
    """`fn(*args)` is the plaintext model; `public` names the arguments that are not secret.

    The first `weights` arguments are the model's: a server holds them for all requests. `examples` are
    arguments of other calls, of the same shapes.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    public: tuple[str, ...] = ()
    weights: int = 0
    examples: tuple[tuple[Any, ...], ...] = ()

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

    text: of models that generate.
    """

    name: str
    description: str
    build: Callable[[], Program]
    source: str
    text: Callable[[], Text] | None = None
