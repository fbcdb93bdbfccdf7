"""What a named model is: a function with example arguments, built only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Program:
    """`fn(*args)` is the plaintext model; `public` names the arguments that are not secret."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    public: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedModel:
    """A name on the command line. `build` imports and initialises what it needs; nothing before does."""

    name: str
    description: str
    build: Callable[[], Program]
    source: str
