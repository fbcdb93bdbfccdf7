"""Write quotients, remainders, shifts and other work on secret integers in sums, comparisons and choices.

A quotient is a long division: one comparison for each bit of the dividend. This is a part of fuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind
from ditto_spu.ops import intervals

_MOST = 1 << 62  # of a shifted divisor, whose difference from the rest must not wrap in ring 64


def expand_divisions(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place the operations on integers for which ring 64 has room. SPU keeps the others."""
    names = ("divide", "remainder", "shift_left", "not")
    for op in [each for each in ir.walk(ir.main(module)) if kind(each) in names]:
        if ir.is_float(op.results[0]) or not any(secret.get(each, True) for each in op.operands):
            continue
        if kind(op) == "not":
            if ir.element(op.results[0]) != "i1":
                ir.rewrite(op, _inverted)
            continue
        if kind(op) == "shift_left":
            if not secret.get(op.operands[1], True):
                ir.rewrite(op, _shifted)
            continue
        dividend, divisor = (max(abs(end) for end in ir.bounds(each)) for each in op.operands)
        bits = max(1, dividend.bit_length())
        if divisor << (bits - 1) <= _MOST:
            meaning = _quotient if kind(op) == "divide" else _remainder
            ir.rewrite(op, partial(meaning, bits=bits))


def expand_bits(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite in place what SPU would do with 64 bits of a narrower integer, or not at all."""
    for op in list(ir.walk(ir.main(module))):
        if not any(secret.get(each, False) for each in op.results):
            continue
        if kind(op) == "count_leading_zeros":
            ir.rewrite(op, _leading_zeros)
        elif kind(op) == "shift_right_logical" and _is_signed(op.results[0]):
            ir.rewrite(op, _shifted_right)


def saturate_conversions(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Bring floats into the range of the narrow or unsigned integer that they become, as JAX does.

    A signed type of 32 bits or more has no such comparison, because its range is nearly that of the formats.
    A simulated call is refused beyond it (`calibration/wrapped_integers.py`).
    """
    conversions = [op for op in ir.walk(ir.main(module)) if kind(op) == "convert" and _may_leave(op, secret)]
    known = intervals(module) if conversions else {}
    for op in conversions:
        kept = ir.dtype(op.results[0])
        info, (low, high) = np.iinfo(kept), known.get(op.operands[0], ir.EVERYTHING)
        ends = (
            info.min if low < info.min else None,
            info.max if high > info.max and kept.itemsize < 4 else None,
        )
        if ends != (None, None):
            ir.rewrite(op, partial(_saturated, dtype=kept, ends=ends))


def _may_leave(op: ir.Op, secret: Mapping[ir.Value, bool]) -> bool:
    """Tell whether a conversion makes a secret float a narrow or unsigned integer."""
    value, result = op.operands[0], op.results[0]
    if not secret.get(value, False) or not ir.is_float(value) or ir.is_float(result):
        return False
    return ir.element(result) != "i1" and not (_is_signed(result) and ir.dtype(result).itemsize >= 4)


def _saturated(x: Array, dtype: np.dtype[Any], ends: tuple[int | None, int | None]) -> Array:
    least, most = ends
    x = x if least is None else jnp.maximum(x, jnp.asarray(least, x.dtype))
    x = x if most is None else jnp.minimum(x, jnp.asarray(most, x.dtype))
    return x.astype(dtype)


def _is_signed(value: ir.Value) -> bool:
    return not ir.element(value).startswith("u")


def _leading_zeros(x: Array) -> Array:
    """Count the powers of two that are larger than x, of which a negative number has none."""
    bits = 8 * x.dtype.itemsize
    signed = jnp.issubdtype(x.dtype, jnp.signedinteger)
    count = jnp.zeros_like(x)
    for place in range(bits - 1 if signed else bits):
        count = count + (x < np.asarray(1 << place, x.dtype)).astype(x.dtype)
    return jnp.where(x < 0, jnp.zeros_like(x), count + 1) if signed else count


def _shifted_right(x: Array, count: Array) -> Array:
    """Return the bits that an arithmetic shift moves down, without the copies of the sign above them."""
    kept = lax.shift_right_logical(jnp.full_like(count, -1), count)
    return lax.shift_right_arithmetic(x, count) & kept


def _inverted(x: Array) -> Array:
    unsigned = jnp.issubdtype(x.dtype, jnp.unsignedinteger)
    return jnp.asarray(jnp.iinfo(x.dtype).max if unsigned else -1, x.dtype) - x


def _shifted(x: Array, count: Array) -> Array:
    one = jnp.array(1, x.dtype)
    return x * jnp.where(count < 8 * x.dtype.itemsize, one << count, jnp.zeros_like(count))


def _divided(x: Array, y: Array, bits: int) -> tuple[Array, Array]:
    """Return quotient and remainder of magnitudes, as 64-bit integers."""
    wide = jnp.abs(x.astype(jnp.int64)), jnp.abs(y.astype(jnp.int64))
    rest, divisor = jnp.broadcast_arrays(*wide)
    quotient = jnp.zeros(rest.shape, jnp.int64)
    for bit in reversed(range(bits)):
        part = divisor * (1 << bit)
        enough = rest >= part
        rest = jnp.where(enough, rest - part, rest)
        quotient = quotient + jnp.where(enough, np.int64(1 << bit), np.int64(0))
    return quotient, rest


def _quotient(x: Array, y: Array, bits: int) -> Array:
    """Return x / y rounded towards zero, and -1 where y is zero, as XLA does."""
    quotient, _ = _divided(x, y, bits)
    if not jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        quotient = jnp.where((x < 0) ^ (y < 0), -quotient, quotient)
    return jnp.where(y == 0, np.int64(-1), quotient).astype(x.dtype)


def _remainder(x: Array, y: Array, bits: int) -> Array:
    """Return the rest of that division, with the sign of x. It is x where y is zero."""
    _, rest = _divided(x, y, bits)
    if not jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        rest = jnp.where(x < 0, -rest, rest)
    return rest.astype(x.dtype)
