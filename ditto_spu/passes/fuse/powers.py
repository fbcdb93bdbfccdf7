"""Write powers in products, roots, exponentials and logarithms. This is a part of fuse.

A power without a result in real numbers (a root of a negative number, a quotient by 0) reaches a root, a
logarithm or a division, whose range is checked.
"""

from __future__ import annotations

import math
from functools import partial

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import splat

_MOST = 32  # the largest exponent that is written in products


def rewrite_power(op: ir.Op) -> None:
    """Replace a power of floats. A constant exponent or base takes the cheaper form."""
    base, exponent = (splat(each) for each in op.operands)
    if exponent is not None and math.isfinite(exponent):
        ir.rewrite(op, partial(_constant_exponent, exponent=float(exponent)), [op.operands[0]])
    elif base is not None and 0 < base < math.inf:
        ir.rewrite(op, partial(_constant_base, base=float(base)), [op.operands[1]])
    else:
        ir.rewrite(op, _power)


def _constant_exponent(x: Array, exponent: float) -> Array:
    size = abs(exponent)
    if size <= _MOST and (2 * size).is_integer():
        number = x if exponent > 0 else 1.0 / x
        factors = [lax.integer_pow(number, int(size))] if size >= 1 else []
        if not size.is_integer():
            factors.append(jnp.sqrt(x) if exponent > 0 else lax.rsqrt(x))
        return math.prod(factors[1:], start=factors[0]) if factors else jnp.ones_like(x)
    if exponent < 0:
        return jnp.exp(exponent * jnp.log(x))
    zero = x == 0
    return jnp.where(zero, 0.0, jnp.exp(exponent * jnp.log(jnp.where(zero, 1.0, x))))


def _constant_base(exponent: Array, base: float) -> Array:
    return jnp.exp(exponent * math.log(base))


def _power(x: Array, y: Array) -> Array:
    """Return x to the power of y: a negative x has powers of whole numbers alone, 0 those not below 0."""
    zero, below = x == 0, x < 0
    half = jnp.floor(0.5 * y + 0.25)  # no rounding of a whole y / 2 reaches the next whole number
    rest = y - (half + half)
    odd, whole = rest == 1.0, (rest == 0.0) | (rest == 1.0)
    known = zero & (y >= 0)  # 1 or 0
    size = jnp.where(below & whole, -x, x)
    result = jnp.exp(y * jnp.log(jnp.where(known, 1.0, size)))
    result = jnp.where(below & odd, -result, result)
    return jnp.where(known, (y == 0).astype(x.dtype), result)
