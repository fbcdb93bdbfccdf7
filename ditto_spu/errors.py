"""All errors that ditto_spu raises on purpose. The text of each names the place and the remedy."""

import math
import numbers
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class DittoError(Exception):
    """The base of all errors below. The command line prints its text alone and exits with code 2."""


class InputError(DittoError):
    """The user's call is wrong: a shape, a dtype, a NaN or infinity, an unknown name, a missing package."""


class ConfigError(DittoError):
    """A precision configuration is wrong: syntax, unknown names, an impossible format, an unused rule."""


class UnsupportedOpError(DittoError):
    """The traced program has an op that neither a kernel nor SPU can run."""


class RangeError(DittoError):
    """A value does not fit its format or its declared range."""


class RangeWarning(UserWarning):
    """Observed values come close to a range on which a protocol relies, or are too small for their format."""


class ConfigWarning(UserWarning):
    """An optional rule does nothing, although its path is nearly one of the program's."""


class CompileError(DittoError):
    """A pass was given a program that is not valid, or would have produced one."""


class PartyError(DittoError):
    """One of the three parties failed while it ran, and the others were stopped."""


class ClusterError(DittoError):
    """A party or client of a cluster refuses an identity, a plan, a right, or a value that differs."""


def require_whole(**named: Any) -> None:
    """Raise InputError for a value that is no whole number. Its name in the call is its name in the error."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise InputError(f"{name} is {value!r:.60}: give a whole number")


def require_finite(**named: Any) -> None:
    """Raise InputError for a value that is no finite real number, as `require_whole` does."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise InputError(f"{name} is {value!r:.60}: give a finite number")


def require_seed(seed: Any) -> None:
    """Raise InputError for a seed of numpy's generator that is neither None nor a whole number from 0."""
    if seed is not None:
        require_whole(seed=seed)
        if seed < 0:
            raise InputError(f"seed is {seed}: give a whole number from 0, or none")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint for a mistyped name: the nearest valid one, or all names of a short list.

    Returns "" if there is neither.
    """
    known = list(words)
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f": did you mean '{close[0]}'?"
    return f": choose one of {', '.join(known)}" if 0 < len(known) <= 40 else ""
