"""Note facts about operands, for the ranges that several kernels rely on.

Facts are JAX functions. They run inside the observed program, so that only extremes leave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from ditto_spu import ir

Operands = Sequence[Array]
Extremes = tuple[Array, Array]  # integers in the order of floats, see `extremes`
Facts = Mapping[str, Extremes]


def operand(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of the first operand."""
    del op
    return {"operand": extremes(operands[0])}


def operand_and_second(op: ir.Op, operands: Operands) -> Facts:
    """Return the least and the largest element of both operands."""
    facts = dict(operand(op, operands))
    if len(operands) > 1 and jnp.issubdtype(operands[1].dtype, jnp.floating):
        facts["second"] = extremes(operands[1])
    return facts


def real(value: Array) -> Array:
    """Return the elements as numbers of a float type. Integers become exact float64 numbers."""
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(jnp.float64)
    return value.astype(jnp.float32) if value.dtype.itemsize < 4 else value


def extremes(value: Array, taken: Array | None = None) -> Extremes:
    """Return the least and the largest element, each as the integer that `number` reads.

    taken: booleans that tell which elements count. If none does, the least is inf and the largest -inf.
    """
    value = real(value) if value.size else jnp.zeros(1)
    ends = [_ordered(np.asarray(each, value.dtype)) for each in (np.inf, -np.inf)]
    low = high = _ordered(value)
    if taken is not None and taken.size:
        low, high = jnp.where(taken, low, ends[0]), jnp.where(taken, high, ends[1])
    # XLA's code for CPUs finds both in one pass, in a tenth of the time that floats would take.
    least, most = lax.reduce(
        (low, high),
        (ends[0], ends[1]),
        lambda a, b: (lax.min(a[0], b[0]), lax.max(a[1], b[1])),
        tuple(range(value.ndim)),
    )
    return least, most


def _ordered(value: Any) -> Any:
    """Return integers in the order of floats. NaN comes before all numbers or after them."""
    kind = np.dtype(f"int{8 * value.dtype.itemsize}")
    view = value.view(kind) if isinstance(value, np.ndarray) else lax.bitcast_convert_type(value, kind)
    return _reversed(view)


def _reversed(bits: Any) -> Any:
    """Reverse the order of negative numbers, given as the bits of floats, and bring it back."""
    kind = bits.dtype.type
    return bits ^ ((bits >> kind(8 * bits.dtype.itemsize - 1)) & kind(np.iinfo(kind).max))


def number(ordered: NDArray[Any]) -> float:
    """Return the float whose place in the order is given, a scalar of 32 or 64 bits."""
    return float(_reversed(np.asarray(ordered)).view(f"float{8 * ordered.itemsize}"))
