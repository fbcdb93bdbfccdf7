"""Write the test of a float's sign bit as a comparison with zero. This is a part of fuse.

`jnp.signbit` and `jnp.copysign` shift the bits of a float, which fixed point does not have. Zero counts as
positive, because fixed point has no negative zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind, splat

_SHIFTS = ("shift_right_arithmetic", "shift_right_logical")


def compare_signs(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite the tests of secret values in place."""
    for op in [each for each in ir.walk(ir.main(module)) if kind(each) == "compare"]:
        value = _shifted_out(op)
        if value is not None and secret.get(value, True):
            ir.rewrite(op, _is_negative, [value])


def _shifted_out(op: ir.Op) -> ir.Value | None:
    """Return the float whose sign bit a comparison with zero tests, or None."""
    shift = ir.define(op.operands[0])
    if ir.comparison(op) != "NE" or kind(shift) not in _SHIFTS or splat(op.operands[1]) != 0:
        return None
    assert shift is not None
    bits = ir.define(shift.operands[0])
    if bits is None or kind(bits) != "bitcast_convert" or not ir.is_float(bits.operands[0]):
        return None
    width = 8 * ir.dtype(bits.operands[0]).itemsize
    return bits.operands[0] if splat(shift.operands[1]) == width - 1 else None


def _is_negative(x: Array) -> Array:
    return jnp.asarray(x < 0)
