"""Write elementary functions of any argument in terms of the operations that have kernels.

This is a part of fuse. `chlo.atan`, `chlo.asin` and `chlo.erf` have a kernel for bounded arguments, which
the functions here keep. An argument without a result in real numbers reaches a logarithm or a root, whose
range is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.ir.arithmetic import kind, polynomial, splat
from ditto_spu.ops import find
from ditto_spu.ops.sqrt import SQRT
from ditto_spu.passes.fuse.powers import rewrite_power

_LARGE = 256.0  # from here on sqrt(x^2 + 1) is x in the formats that are used
_ERF_END = 4.0  # erf(4) is 1 - 1.5e-8
_FACTOR_DIGITS = 16  # significant bits of a constant that products with it keep


def _tan(x: Array) -> Array:
    return jnp.sin(x) / jnp.cos(x)


def _atan(x: Array) -> Array:
    large = jnp.abs(x) > 1.0
    inside = jnp.where(large, 1.0 / jnp.where(large, x, 1.0), x)
    angle = lax.atan(inside)
    return jnp.where(large, jnp.where(x < 0, -math.pi / 2, math.pi / 2).astype(x.dtype) - angle, angle)


def _atan2(y: Array, x: Array) -> Array:
    """Return the angle of (x, y). It is 0 at the origin."""
    height, width = jnp.abs(y), jnp.abs(x)
    steep = height > width
    longest = jnp.maximum(height, width)
    ratio = jnp.minimum(height, width) / jnp.where(longest > 0, longest, 1.0)
    angle = lax.atan(ratio)
    angle = jnp.where(steep, math.pi / 2 - angle, angle)
    angle = jnp.where(x < 0, math.pi - angle, angle)
    return jnp.where(y < 0, -angle, angle)


def _asin(x: Array) -> Array:
    """Return the inverse sine. Near 1 it is that of the half angle, which keeps all digits of 1 - |x|."""
    size = jnp.abs(x)
    large = size > 0.5
    inside = jnp.where(large, jnp.sqrt((1.0 - size) * 0.5), size)
    angle = lax.asin(inside)
    angle = jnp.where(large, math.pi / 2 - 2.0 * angle, angle)
    return jnp.where(x < 0, -angle, angle)


def _acos(x: Array) -> Array:
    size = jnp.abs(x)
    large = size > 0.5
    inside = jnp.where(large, jnp.sqrt((1.0 - size) * 0.5), x)
    angle = lax.asin(inside)
    turned = jnp.where(x < 0, math.pi - 2.0 * angle, 2.0 * angle)
    return jnp.where(large, turned, math.pi / 2 - angle)


def _half_acos(x: Array) -> Array:
    return 0.5 * _acos(x)


def _cosine_of(op: ir.Op) -> ir.Value | None:
    """Return x if an atan2 is that of sqrt(1 - x^2) and 1 + x, as JAX writes half of acos, or None."""
    root, line = (ir.define(each) for each in op.operands)
    if root is None or line is None or find(root) is not SQRT or kind(line) != "add":
        return None
    for x, other in (line.operands, reversed(list(line.operands))):
        squares = polynomial(root.operands[0], x) or {}
        if splat(other) == 1 and {power: c for power, c in squares.items() if c} == {0: 1.0, 2: -1.0}:
            return x
    return None


def _sinh(x: Array) -> Array:
    return 0.5 * (jnp.exp(x) - jnp.exp(-x))


def _cosh(x: Array) -> Array:
    return 0.5 * (jnp.exp(x) + jnp.exp(-x))


def _asinh(x: Array) -> Array:
    size = jnp.abs(x)
    near = jnp.minimum(size, _LARGE)
    value = jnp.log1p(near + (jnp.sqrt(near * near + 1.0) - 1.0))
    value = jnp.where(size > _LARGE, math.log(2) + jnp.log(jnp.maximum(size, _LARGE)), value)
    return jnp.where(x < 0, -value, value)


def _acosh(x: Array) -> Array:
    near = jnp.minimum(x, _LARGE)
    value = jnp.log1p((near - 1.0) + jnp.sqrt(near - 1.0) * jnp.sqrt(near + 1.0))
    return jnp.where(x > _LARGE, math.log(2) + jnp.log(jnp.maximum(x, _LARGE)), value)


def _atanh(x: Array) -> Array:
    return 0.5 * (jnp.log1p(x) - jnp.log1p(-x))


def _erf(x: Array) -> Array:
    return lax.erf(jnp.clip(x, -_ERF_END, _ERF_END))


def _erfc(x: Array) -> Array:
    return 1.0 - _erf(x)


def _cbrt(x: Array) -> Array:
    size = jnp.abs(x)
    root = jnp.exp(jnp.log(jnp.where(size > 0, size, 1.0)) * (1 / 3))
    return jnp.where(x > 0, root, jnp.where(x < 0, -root, 0.0))


def _remainder(x: Array, y: Array) -> Array:
    """Return the remainder of a division that rounds towards zero, with the sign of x.

    Products of whole numbers with y are exact, so that multiples of y leave nothing.
    """
    return _rest(x, y, lambda quotient: quotient * y)


def _remainder_by(x: Array, divisor: float) -> Array:
    """Return the remainder by a constant, whose lower digits count in large multiples of it."""
    unit = 2.0 ** (math.frexp(divisor)[1] - _FACTOR_DIGITS)
    high = round(divisor / unit) * unit
    low = divisor - high
    multiple = (lambda q: q * high + q * low) if low else (lambda q: q * high)
    return _rest(x, jnp.full_like(x, divisor), multiple)


def _rest(x: Array, y: Array, multiple: Callable[[Array], Array]) -> Array:
    """The first quotient errs by a part of itself, and the second one repairs that."""
    left = x - multiple(jnp.round(x / y))
    left = left - multiple(jnp.round(left / y))
    size = jnp.abs(y)
    left = jnp.where((left < 0) & (x > 0), left + size, left)
    return jnp.where((left > 0) & (x < 0), left - size, left)


def _is_finite(x: Array) -> Array:
    return jnp.ones(x.shape, bool)


EXPANSIONS: Mapping[str, Callable[..., Any]] = {
    "acos": _acos,
    "acosh": _acosh,
    "asin": _asin,
    "asinh": _asinh,
    "atan": _atan,
    "atan2": _atan2,
    "atanh": _atanh,
    "cbrt": _cbrt,
    "cosh": _cosh,
    "erf": _erf,
    "erfc": _erfc,
    "is_finite": _is_finite,
    "remainder": _remainder,
    "sinh": _sinh,
    "square": lambda x: x * x,
    "tan": _tan,
}


def expand_functions(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite functions of secret values in place. XLA runs those of public values as they are.

    Raises UnsupportedOpError for an operation of the chlo dialect that has no form here.
    """
    for op in list(ir.walk(ir.main(module))):
        if not op.operands or not any(secret.get(each, False) for each in op.results):
            continue
        if op.name.startswith("chlo.") and kind(op) not in EXPANSIONS:
            path = ir.path_of(op)
            place = f"{ir.source_of(op)}, in {path}" if path else ir.source_of(op)
            raise UnsupportedOpError(
                f"'{kind(op)}' ({place}) acts on secret values, which no protocol here can do: write it with "
                f"exp, log, tanh, division or a polynomial, or make its input public"
            )
        if not ir.is_float(op.operands[0]):
            continue
        divisor = splat(op.operands[1]) if kind(op) == "remainder" else None
        if kind(op) == "power":
            rewrite_power(op)
        elif divisor is not None and 0 < abs(divisor) < math.inf:
            ir.rewrite(op, partial(_remainder_by, divisor=float(divisor)), [op.operands[0]])
        elif kind(op) == "atan2" and (x := _cosine_of(op)) is not None:
            ir.rewrite(op, _half_acos, [x])
        elif kind(op) in EXPANSIONS:
            ir.rewrite(op, EXPANSIONS[kind(op)])
