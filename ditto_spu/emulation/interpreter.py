"""A StableHLO module as a JAX function, so that gradients of the emulated secure program can be taken.

XLA runs a module as it stands (`ir.evaluate`), but an executable cannot be differentiated. Here every
operation becomes the JAX operation of the same meaning. So gradients, `jax.jit` and `jax.vmap` apply to any
stage of the compiler. Values agree with those of `ir.evaluate`, because JAX lowers its operations to the same
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.emulation.interpreter_ops import TABLE
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.rounding import round_to
from ditto_spu.ops.cast import is_cast, read_cast

# (an operation of @main, its operands, its results) -> the results that the rest of the program sees
Watch = Callable[[ir.Op, list[Array], list[Array]], Sequence[Array]]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def straight_through(x: Array, fraction_bits: int) -> Array:
    """Return x rounded to this many fraction bits. Its derivative is that of the identity."""
    return round_to(x, fraction_bits)


@straight_through.defjvp
def _identity(fraction_bits: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return straight_through(*primals, fraction_bits), tangents[0]


def as_function(module: ir.Module) -> Callable[..., list[Array]]:
    """Return `run(values, watch=None)`, which computes the results of @main.

    values: arrays in the order of @main's arguments.
    watch: is called with every operation of @main, its operands and its results. The rest of the program uses
        the results that it returns.

    Casts let gradients through their rounding unchanged. Other composites have the derivative of their
    decomposition. Raises UnsupportedOpError at once, with the operation's path, for an operation that is not
    in the table.
    """
    functions = ir.functions(module)
    for function in functions.values():
        for op in ir.ops(ir.body(function)):
            if op.name not in TABLE and op.name not in _CALLS and not _ends(op):
                raise UnsupportedOpError(
                    f"'{op.name}' ({ir.source_of(op)}{_within(op)}) cannot be differentiated here: write it "
                    "with arithmetic, products of matrices, reductions and indexing"
                )

    def run(values: Sequence[Any], watch: Watch | None = None) -> list[Array]:
        arrays = [jnp.asarray(each) for each in values]
        return _run(functions, ir.body(functions["main"]), arrays, watch)

    run.module = module  # type: ignore[attr-defined]  # its operations live only as long as it does
    return run


def _ends(op: ir.Op) -> bool:
    return op.name in ("func.return", "stablehlo.return")


def _within(op: ir.Op) -> str:
    path = ir.path_of(op)
    return f", in {path}" if path else ""


def _run(
    functions: dict[str, ir.Op], block: ir.Block, arrays: Sequence[Array], watch: Watch | None
) -> list[Array]:
    known: dict[ir.Value, Array] = dict(zip(block.arguments, arrays, strict=True))
    for op in ir.ops(block):
        operands = [known[each] for each in op.operands]
        if _ends(op):
            return operands
        called = op.name in _CALLS
        results = _called(functions, op, operands) if called else [TABLE[op.name](op, *operands)]
        if watch is not None:
            results = list(watch(op, operands, results))
        known.update(zip(op.results, results, strict=True))
    raise AssertionError("a block ends with a return")


_CALLS = {"func.call": "callee", "stablehlo.composite": "decomposition"}


def _called(functions: dict[str, ir.Op], op: ir.Op, operands: list[Array]) -> list[Array]:
    if is_cast(op):
        return [straight_through(operands[0], read_cast(op).target.fraction_bits)]
    return _run(functions, ir.body(functions[ir.symbol(op, _CALLS[op.name])]), operands, None)
