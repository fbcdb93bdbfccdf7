"""Local products by numpy and XLA, on every processor: int32 up to ring 32, float64 limbs for ring 64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine import tuning
from ditto_kernels.machine.cells import NumpyCells
from ditto_kernels.machine.operands import Combination, Prepared

if TYPE_CHECKING:
    from ditto_kernels.machine.compile import Processor

LIMB_BITS = 22
MAX_CONTRACTION = 2048  # 2 * 21 bits of a limb product and 11 bits of terms fit float64's 53 exact bits.

_ROWS_BY_COLUMNS = (((2,), (1,)), ((0,), (0,)))


class NumpyXla:
    """The back end that needs no generated code. XLA has one fast product of integers, of int32."""

    cells = NumpyCells()
    fast_integers = False
    least_terms = tuning.XLA_MATMUL_TERMS
    target: Processor | None = None

    def prepare(self, operand: Combination, left: bool) -> Prepared:
        x, y, p, q = operand
        made = x * x.dtype.type(p)
        if q:
            made += y * y.dtype.type(q)
        form: Any = made if left else np.ascontiguousarray(made.swapaxes(1, 2))
        if x.dtype.itemsize <= 4:
            form = jnp.asarray(form, jnp.int32)
        return Prepared((x.shape[0], x.shape[1], x.shape[2]), x.dtype, form)

    def multiply(self, pairs: Sequence[tuple[Prepared, Prepared]]) -> NDArray[Any]:
        dtype = pairs[0][0].dtype
        if dtype.itemsize <= 4:
            total = _int_products([left.form for left, _ in pairs], [right.form for _, right in pairs])
            return np.asarray(total).astype(dtype)
        return np.asarray(sum(_product64(left.form, right.form) for left, right in pairs))

    def sums(self, values: NDArray[Any], factors: NDArray[Any]) -> NDArray[Any]:
        return np.matmul(factors, values.astype(factors.dtype, copy=False).swapaxes(1, 2))


@jax.jit
def _int_products(left: list[jax.Array], right: list[jax.Array]) -> Any:
    return sum(jax.lax.dot_general(a, b, _ROWS_BY_COLUMNS) for a, b in zip(left, right, strict=True))


def _product64(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Multiply (batch, m, k) by (batch, k, n) in Z_2^64 by six float64 products of limbs."""
    total = np.zeros((left.shape[0], left.shape[1], right.shape[2]), np.int64)
    for start in range(0, left.shape[2], MAX_CONTRACTION):
        stop = start + MAX_CONTRACTION
        left_limbs, right_limbs = _limbs(left[:, :, start:stop]), _limbs(right[:, start:stop])
        for i in range(3):
            for j in range(3 - i):
                product = np.matmul(left_limbs[i], right_limbs[j]).astype(np.int64)
                total += product << np.int64(LIMB_BITS * (i + j))
    return total


def _limbs(value: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return three signed limbs of 22 bits, which float64 represents exactly."""
    limbs, half = [], np.int64(1 << (LIMB_BITS - 1))
    for _ in range(3):
        low = ((value + half) & np.int64((1 << LIMB_BITS) - 1)) - half
        limbs.append(low.astype(np.float64))
        value = (value - low) >> LIMB_BITS
    return limbs
