"""Say in the user's terms why a function cannot be traced, with the line and the remedy."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import jax

from ditto_spu.errors import DittoError, InputError, UnsupportedOpError

_HERE = str(Path(__file__).parent.parent)
_FEW = 8  # so many arguments are told in the text of an error
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
def program_errors(arguments: Mapping[str, str]) -> Iterator[None]:
    """Turn every error of the user's function into a DittoError with the user's line and the remedy.

    arguments: the shape and dtype of each argument, by its path, for the text.
    Raises UnsupportedOpError where JAX needs a value while it traces, and InputError for everything else.
    """
    try:
        yield
    except DittoError:
        raise
    except Exception as error:
        found = next(((what, remedy) for kind, what, remedy in _NEEDED if isinstance(error, kind)), None)
        if found is None:
            found = next(((what, remedy) for part, what, remedy in _SAID if part in str(error)), None)
        if found is None:
            raise InputError(_own_error(error, arguments)) from error
        what, remedy = found
        raise UnsupportedOpError(
            f"{_line(error)}: {what}, but values are known only when the function runs: {remedy}; "
            "if it is a parameter that is no array, name it in static_argnames"
        ) from error


def _own_error(error: Exception, arguments: Mapping[str, str]) -> str:
    given = ", ".join(f"{path}: {kind}" for path, kind in list(arguments.items())[:_FEW])
    more = f" and {len(arguments) - _FEW} more" if len(arguments) > _FEW else ""
    return (
        f"{_line(error)}: the function fails while JAX traces it, as it does under jax.jit: "
        f"{type(error).__name__}: {str(error).rstrip('.')}. "
        f"Mend the function or the call, whose arrays are {given or 'none'}{more}"
    )


def _line(error: Exception) -> str:
    """Return `file:line` of the innermost frame that is the user's, or of the call if none is."""
    for frames in (traceback.extract_tb(error.__traceback__), traceback.extract_stack()):
        own = [each for each in frames if _is_users(each.filename)]
        if own:
            return f"{own[-1].filename}:{own[-1].lineno}"
    return "the program"


def _is_users(filename: str) -> bool:
    return (
        "site-packages" not in filename
        and not filename.startswith((_HERE, "<"))
        and "/lib/python" not in filename
    )
