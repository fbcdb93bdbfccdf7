"""Every error that ditto_spu raises on purpose: one sentence that names the place and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class DittoError(Exception):
    """Base of all errors below; the command line prints its text alone and exits with code 2."""


class InputError(DittoError):
    """The user's call is wrong: shape, dtype, NaN or infinity, an unknown name, a missing package."""


class ConfigError(DittoError):
    """A precision configuration is wrong: syntax, unknown names, an impossible format, an unused rule."""


class UnsupportedOpError(DittoError):
    """The traced program holds an op that neither a kernel nor SPU can run."""


class RangeError(DittoError):
    """A value does not fit its format or its declared range."""


class RangeWarning(UserWarning):
    """Observed values come close to a range that a protocol relies on."""


class CompileError(DittoError):
    """A pass was handed, or would have produced, a program that is not valid."""


class PartyError(DittoError):
    """One of the three parties failed while running; the others were stopped."""


class ClusterError(DittoError):
    """A party or client of a cluster refuses: an identity, a plan, a right, or something that differs."""


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest valid one, or all of a short list."""
    known = list(words)
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f": did you mean '{close[0]}'?"
    return f": choose one of {', '.join(known)}" if 0 < len(known) <= 20 else ""
