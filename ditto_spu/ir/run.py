"""Run modules in plaintext on XLA's CPU client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.extend
import numpy as np

from ditto_spu.ir.bindings import Module, Op
from ditto_spu.ir.cut_out import extract
from ditto_spu.ir.module import arguments, parse, text
from ditto_spu.ir.parts import parts
from ditto_spu.ir.program_cache import kept_by_text
from ditto_spu.ir.values import dtype, element, shape


@dataclass(frozen=True)
class _Program:
    """A compiled module: the dtypes of its arguments, and its parts, of which short programs have one.

    parts: for each part its executable, and the places of its arguments among the values so far.
    results: the places of the results.
    """

    dtypes: tuple[np.dtype[Any], ...]
    parts: tuple[tuple[Any, tuple[int, ...]], ...]
    results: tuple[int, ...] | None


@kept_by_text
def _compiled(source: str) -> _Program:
    module = parse(source)
    dtypes = tuple(dtype(each) for each in arguments(module))
    compile_text = jax.extend.backend.get_backend("cpu").compile
    cut = parts(module)
    if cut is None:
        return _Program(dtypes, ((compile_text(source), tuple(range(len(dtypes)))),), None)
    made = tuple((compile_text(each.text), each.arguments) for each in cut.parts)
    return _Program(dtypes, made, cut.results)


def prepare(source: str) -> None:
    """Compile a program that `evaluate` will run."""
    _compiled(source)


def evaluate(program: str | Module, args: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Run a module in plaintext on XLA's CPU client, and return its results.

    Composites mean their decompositions.
    """
    compiled = _compiled(program if isinstance(program, str) else text(program))
    values = [buffer(each, dtype) for each, dtype in zip(args, compiled.dtypes, strict=True)]
    returned: list[Any] = []
    for executable, places in compiled.parts:
        returned = executable.execute([values[place] for place in places])
        values += returned
    if compiled.results is not None:
        returned = [values[place] for place in compiled.results]
    return [np.asarray(each) for each in returned]


def buffer(value: Any, dtype: np.dtype[Any]) -> jax.Array:
    """Return an array as XLA's CPU client takes it, without a copy if it already is one."""
    client = jax.extend.backend.get_backend("cpu")
    if isinstance(value, jax.Array) and value.dtype == dtype and value.devices() == {client.devices()[0]}:
        return value
    made: jax.Array = client.buffer_from_pyval(np.asarray(value, dtype))
    return made


def constant_value(op: Op) -> np.ndarray[Any, Any]:
    """Return the array of a stablehlo.constant.

    A constant of one repeated value is returned as a read-only broadcast.
    """
    attr, result = op.attributes["value"], op.results[0]
    if 0 in shape(result):
        return np.zeros(shape(result), dtype(result))
    if attr.is_splat:
        one = attr.get_splat_value().value
        return np.broadcast_to(np.asarray(one, dtype(result)), shape(result))
    if element(result) in ("i1", "bf16"):
        # The bindings abort the process when they are asked for a buffer of these types.
        return evaluate(extract([op], [], [result], "constant"), [])[0]
    return np.array(attr).reshape(shape(result))
