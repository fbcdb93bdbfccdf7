"""Turn divisions by public values and look-ups by public ids into linear operations."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ditto_spu import ir
from ditto_spu.passes.analysis.classify import op_name
from ditto_spu.passes.analysis.visibility import visibility


def linearise(module: ir.Module, public: Sequence[bool]) -> ir.Module:
    """A copy of the fused module without divisions by public values and without embeddings of public ids."""
    module = ir.clone(module)
    secret = visibility(module, public)
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        if op_name(op) not in ("stablehlo.divide", "ditto.embedding") or not secret[op.operands[0]]:
            continue
        if secret[op.operands[1]] or not ir.is_float(op.results[0]):
            continue
        meaning = _times_inverse if op.name == "stablehlo.divide" else _rows
        (result,) = ir.emit(meaning, list(op.operands), op, op.location)
        ir.replace_all_uses(op.results[0], result)
        op.erase()
    ir.run_passes(module, "cse,symbol-dce")
    ir.verify(module)
    return module


def _times_inverse(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * (1.0 / y)


def _rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """Ids outside the table take the nearest row, as in the composite's decomposition."""
    return jnp.take(table, ids, axis=0, mode="clip")
