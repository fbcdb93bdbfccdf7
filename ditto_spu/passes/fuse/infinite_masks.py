"""Bring infinite constants that only leave elements out to where formats can hold them.

`jnp.argmax(jnp.where(mask, x, -jnp.inf))` leaves elements out, and so does a sum of exponentials. Any number
below all others does the same. A maximum of which nothing is left is then -LARGEST in place of -infinity:
`function/check_infinity.py` refuses outputs that show it.
This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind
from ditto_spu.ops.argmax import indices_of_extreme
from ditto_spu.ops.compare import COMPARE
from ditto_spu.ops.public_operands import constant

# It leaves room for the difference of two such numbers in SPU's format and in that of `auto`, both fxp64.18.
LARGEST = 2.0**43
_REARRANGE = ("reshape", "transpose", "broadcast_in_dim", "slice")


def bound_infinite_masks(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place the selections between secret values and constants beyond `LARGEST`.

    Elements that are selected beside them have to lie below `LARGEST`, half of what fxp64.18 holds.
    """
    for op in [each for each in ir.walk(ir.main(module)) if each.name == "stablehlo.select"]:
        result = op.results[0]
        if not secret[result] or not ir.is_float(result) or not all(_leaves_out(u) for u in ir.users(result)):
            continue
        if any(map(_is_beyond, list(op.operands)[1:])):
            branches = [_bounded(op, each) for each in list(op.operands)[1:]]
            ir.rewrite(op, jnp.where, [op.operands[0], *branches])


def _leaves_out(user: ir.Op) -> bool:
    """Tell whether an operation only compares what it reads, takes an extreme, or exponentials of it."""
    if kind(user) in _REARRANGE:
        return all(_leaves_out(each) for each in ir.users(user.results[0]))
    if user.name in COMPARE.kernels or kind(user) in ("maximum", "minimum", "exponential"):
        return True
    if kind(user) != "reduce":
        return False
    inner = ir.ops(user.regions[0].blocks[0])
    if len(user.operands) == 2 and len(inner) == 2 and kind(inner[0]) in ("maximum", "minimum"):
        return True
    return indices_of_extreme(user) is not None and not ir.users(user.results[0])


def _is_beyond(value: ir.Value) -> bool:
    known = constant(value)
    return known is not None and bool(np.any(np.abs(np.asarray(known, np.float64)) >= LARGEST))


def _bounded(op: ir.Op, value: ir.Value) -> ir.Value:
    if not _is_beyond(value):
        return value

    def bounded(x: Array) -> Array:
        return jnp.clip(x, -LARGEST, LARGEST).astype(x.dtype)

    return ir.emit(bounded, [value], op, op.location)[0]
