"""Take values without elements out of a program: they hold nothing that could be secret.

JAX allows arrays with an extent of 0. A result without elements becomes a constant. An operation that reads
such a value and has elements, such as a sum or a concatenation, is written without it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ditto_spu import ir

# The place of the values that these operations write. Indices may be empty where whole arrays are written.
_UPDATES = {"scatter": 2, "dynamic_update_slice": 1}


def drop_empty_values(module: ir.Module) -> None:
    """Rewrite a module without calls in place, so that no operation on secret values reads an empty one."""
    for op in list(ir.ops(ir.body(ir.main(module))))[:-1]:
        if not op.results or op.name in ("stablehlo.while", "stablehlo.case"):
            continue
        for result in op.results:
            if _is_empty(result):
                ir.replace_all_uses(result, _filled(op, result))
        if any(map(_is_empty, op.operands)) and not _is_empty(op.results[0]):
            _without(op)


def _is_empty(value: ir.Value) -> bool:
    return ir.is_known(value) and 0 in ir.shape(value)


def _without(op: ir.Op) -> None:
    """Replace an operation that has elements by what it computes without its empty operands."""
    filled = [each for each in op.operands if not _is_empty(each)]
    name = op.name.removeprefix("stablehlo.")
    if name == "concatenate":
        if len(filled) == 1:
            ir.replace_all_uses(op.results[0], filled[0])
        else:
            axis = ir.attribute(op, "dimension")
            ir.rewrite(op, lambda *parts: lax.concatenate(parts, axis), filled)
    elif name == "reduce":  # the initial values, one for each result
        half = len(op.operands) // 2
        for result, initial in zip(op.results, list(op.operands)[half:], strict=True):
            ir.replace_all_uses(result, _filled(op, result, initial))
    elif name == "pad":
        ir.replace_all_uses(op.results[0], _filled(op, op.results[0], op.operands[1]))
    elif name == "dot_general":
        ir.replace_all_uses(op.results[0], _filled(op, op.results[0]))
    elif name in _UPDATES and _is_empty(op.operands[_UPDATES[name]]):  # nothing is written
        ir.replace_all_uses(op.results[0], op.operands[0])


def _filled(op: ir.Op, result: ir.Value, scalar: ir.Value | None = None) -> ir.Value:
    """Return an array like `result`, filled with a scalar, or with zeros."""
    shape, dtype = ir.shape(result), np.dtype(ir.dtype(result))

    def fill(*scalars: Any) -> Array:
        return jnp.broadcast_to(scalars[0], shape) if scalars else jnp.zeros(shape, dtype)

    return ir.emit(fill, [] if scalar is None else [scalar], op, op.location)[0]
