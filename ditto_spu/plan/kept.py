"""Handles of kept outputs, which stay in shares between runs: they tell shape and format, never the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu.errors import InputError


class Kept:
    """A tensor that three parties hold in shares. Later calls take it in place of an array.

    It may serve any number of calls, of any secure function. A run draws fresh masks for everything that
    leaves a party, and never changes its inputs. A handle cannot be read, stored or sent.

    This class itself only describes such a tensor, for calls that are compiled before it exists
    (`Call.described`). `KeptHere` is one of simulated parties, and a cluster's client has its own.

    path: the path of the output, for messages.
    shape, dtype: of the array for which it stands.
    fxp: the format of the shares.
    """

    def __init__(self, path: str, dtype: str, shape: tuple[int, ...], fxp: Fxp) -> None:
        self.path = path
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.fxp = fxp

    @property
    def state(self) -> str:
        """Return in words where the shares are."""
        return "not made yet"

    def release(self) -> None:
        """Give up the shares, if there are any. Every later use of the handle raises InputError."""

    def abstract(self) -> jax.ShapeDtypeStruct:
        """Return the shape and dtype in the form that tracing takes."""
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"<{self.path}: {self.dtype}{list(self.shape)}, {self.fxp}, {self.state}>"

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise InputError(
            f"'{self.path}' stays in shares and cannot be read: hand it to a secure function, or leave it "
            "out of `keep` where it is to be opened"
        )

    def __reduce__(self) -> NoReturn:
        raise InputError(f"'{self.path}' is in shares at the parties: it cannot be stored or sent")


class KeptHere(Kept):
    """A tensor that the three simulated parties of this process hold in shares."""

    def __init__(self, path: str, dtype: str, parts: Sequence[Rss]) -> None:
        super().__init__(path, dtype, parts[0].shape, parts[0].fxp)
        self._parts: tuple[Rss, ...] | None = tuple(parts)

    @property
    def state(self) -> str:
        """Return in words where the shares are."""
        return "released" if self._parts is None else "in shares"

    def release(self) -> None:
        """Delete the shares. Every later use of the handle raises InputError."""
        self._parts = None

    def parts(self) -> tuple[Rss, ...]:
        """Return the shares of each party. Raises InputError if they were released."""
        if self._parts is None:
            raise InputError(f"the shares of '{self.path}' were released: run again what made them")
        return self._parts
