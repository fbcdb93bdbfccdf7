"""Define a checkpoint: the settings of a model, and tensors that are read when they are used."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError

_NEAR = 0.9  # likeness of a misspelt name; other settings that these families have are less alike


@dataclass(frozen=True)
class Stored:
    """One tensor of a file. `read()` returns it in float32, memory-mapped where the file has float32."""

    shape: tuple[int, ...]
    read: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Settings:
    """The settings of a model, as config.json names them, with checks and errors that name the file."""

    values: Mapping[str, Any]
    source: Path

    def whole(self, name: str, default: int | None = None) -> int:
        """Return a positive whole number. Without a default the setting has to be there."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, value, "a whole number from 1")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a positive number. Without a default the setting has to be there."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.wrong(name, value, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def choice(self, name: str, default: str | None, known: tuple[str, ...]) -> str:
        """Return one of the known texts."""
        value = self._value(name, default)
        if value not in known:
            raise self.wrong(name, value, f"one that is supported here: {', '.join(known)}")
        return str(value)

    def part(self, name: str) -> Settings:
        """Return the settings that stand below a name. There are none if the name is missing."""
        value = self._value(name, {})
        if not isinstance(value, Mapping):
            raise self.wrong(name, value, "an object of settings")
        return Settings(value, self.source)

    def require_spelling(self, names: Collection[str]) -> None:
        """Refuse a name that looks like one of `names`, which would get its default without a word."""
        for name in self.values:
            near = get_close_matches(name, names, n=1, cutoff=_NEAR)
            if near and name not in names and near[0] not in self.values:
                raise InputError(
                    f"{self.source} sets '{name}', which is no setting, and leaves '{near[0]}' out: rename it"
                )

    def _value(self, name: str, default: Any) -> Any:
        """Return a setting, or the default if it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def wrong(self, name: str, value: Any, wanted: str) -> InputError:
        """Return the error of a setting that cannot be served."""
        return InputError(f"{self.source} sets {name} to {value!r}, where it needs {wanted}")


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    source: the folder or file, for errors.
    settings: what config.json says, or the same made of the metadata of a GGUF file.
    tensors: the tensors by name, as torch or Flax wrote them, joined by dots.
    """

    source: Path
    settings: Settings
    tensors: Mapping[str, Stored]
