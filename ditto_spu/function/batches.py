"""Read the batches that a user gives to a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ditto_spu.errors import InputError


def iterated(batches: Any) -> Iterable[Any]:
    """Return the batches if they are several. Raises InputError otherwise."""
    if isinstance(batches, Mapping | str) or not isinstance(batches, Iterable):
        raise InputError(f"batches are a list of calls, not {type(batches).__name__}: give [(x,), (y,)]")
    return batches


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments of one batch."""
    if isinstance(batch, Mapping):
        return (), dict(batch)
    if not isinstance(batch, tuple):
        raise InputError(
            f"a batch is the tuple or dictionary of one call's arguments, not a {type(batch).__name__}: "
            "write (x,) for a function of one argument"
        )
    return batch, {}
