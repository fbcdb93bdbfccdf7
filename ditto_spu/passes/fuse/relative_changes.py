"""Write relative changes with their difference first: x / y - 1 becomes (x - y) / y. This is a part of fuse.

A quotient errs relative to its size. For a small change it is close to 1, and its error would be large beside
what is left when 1 is subtracted. Differences are exact.
"""

from __future__ import annotations

from collections.abc import Mapping

from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import binary, kind, splat


def subtract_first(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite quotients by secret values of @main in place, where all that reads them subtracts 1."""
    for op in list(ir.walk(ir.main(module))):
        quotient = _less_one(op)
        if quotient is not None and secret.get(quotient.operands[1], False):
            ir.rewrite(op, _change, list(quotient.operands))


def _less_one(op: ir.Op) -> ir.Op | None:
    """Return the quotient of x / y - 1 whose only reader this is, or None."""
    if kind(op) not in ("add", "subtract") or not ir.is_float(op.results[0]):
        return None
    one = 1.0 if kind(op) == "subtract" else -1.0
    for value, number in binary(op)[: 1 if kind(op) == "subtract" else 2]:
        maker = ir.define(value)
        if maker is not None and kind(maker) == "divide" and splat(number) == one:
            return maker if len(ir.users(value)) == 1 else None
    return None


def _change(x: Array, y: Array) -> Array:
    return (x - y) / y
