"""Say in the user's terms what JAX cannot trace: an `if`, a loop or a shape that depends on a value."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from ditto_spu.errors import UnsupportedOpError

_HERE = str(Path(__file__).parent.parent)
_NEEDED = (
    (
        jax.errors.TracerBoolConversionError,
        "Python asks whether an array is true (`if`, `while`, `and`, `bool`)",
        "choose with jnp.where or lax.cond, and loop with lax.fori_loop",
    ),
    (
        jax.errors.TracerIntegerConversionError,
        "Python needs an array as a plain integer (`range`, an index of a list)",
        "loop with lax.fori_loop, and index with jnp.take",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "the number of elements that a boolean index picks depends on values",
        "keep all elements, and choose with jnp.where",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "numpy is called on an array of the program",
        "use the function of jax.numpy",
    ),
    (
        jax.errors.ConcretizationTypeError,
        "Python or a shape needs the value of an array",
        "convert with astype, give the functions that ask for it a `size`, and choose with jnp.where",
    ),
    (
        jax.errors.UnexpectedTracerError,
        "an array of another traced function is used here",
        "return it, or pass it as an argument",
    ),
)
# The same by the text of errors whose kinds say too little: (a part of the text, what happened, the remedy).
_SAID = (
    (
        "concrete values of integer type",
        "a shape depends on the value of an array",
        "pass the shape as a plain number",
    ),
    (
        "must have static start/stop/step",
        "the ends of a slice are values of arrays",
        "slice with lax.dynamic_slice",
    ),
    (
        "truth value of an array with more than one element",
        "Python asks whether a whole array is true (`and`, `or`, `not`, `if`)",
        "combine with &, | and ~, and choose with jnp.where",
    ),
    (
        "is not a valid JAX type",
        "the function uses or returns something that is no array",
        "return arrays alone, in tuples, lists or dictionaries",
    ),
)


@contextmanager
def program_errors() -> Iterator[None]:
    """Raise UnsupportedOpError, with the user's line and the remedy, where JAX needs a value while it traces.

    All other errors of the user's function pass as they are.
    """
    try:
        yield
    except Exception as error:
        found = next(((what, remedy) for kind, what, remedy in _NEEDED if isinstance(error, kind)), None)
        if found is None:
            found = next(((what, remedy) for part, what, remedy in _SAID if part in str(error)), None)
        if found is None:
            raise
        what, remedy = found
        raise UnsupportedOpError(
            f"{_line(error)}: {what}, but values are known only when the function runs: {remedy}; "
            "if it is a parameter that is no array, name it in static_argnames"
        ) from error


def _line(error: Exception) -> str:
    """Return `file:line` of the innermost frame that is the user's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        each
        for each in frames
        if "site-packages" not in each.filename
        and not each.filename.startswith((_HERE, "<"))
        and "/lib/python" not in each.filename
    ]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else "the program"
