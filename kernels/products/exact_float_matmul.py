"""Products with public integers of few bits are exact in float64, whose matrix products are fast.

An element of Z_2^k is a signed number of at most 2^(k-1), so that no partial sum of products with a column
exceeds 2^(k-1) times the sum of the column's magnitudes. Up to 2^53 each partial sum is an integer that
float64 holds, in whatever order the terms are added. Columns of a model's public weights have sums near 2^16.
Where they are larger, or k is 64, the elements are cut into limbs or multiplied as integers. A back end with
fast products of integers needs none of this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine.backends import backend
from ditto_kernels.machine.operands import Combination, Prepared
from ditto_kernels.products.matmul import Dimensions, as_batches, result_shape
from ditto_kernels.protocol import tuning
from ditto_kernels.values.formats import Array

EXACT_BITS = 53  # Every integer up to 2^53 is a float64 number.


@dataclass(frozen=True)
class Factor:
    """A public operand of a dot_general, as ring elements. `left` says that it is the left one.

    `real` has shape [batch, summed, free], or [batch, free, summed] for a left operand. `limb_bits` is the
    width of the limbs of the other operand. Where products of integers are faster, `integers` serve in their
    place.
    """

    shape: tuple[int, ...]
    ring_bits: int
    dims: Dimensions
    left: bool
    limb_bits: int
    real: NDArray[np.float64] | None
    integers: Prepared | None = None

    @property
    def limbs(self) -> int:
        """The number of matrix products that one product takes."""
        return math.ceil(self.ring_bits / self.limb_bits)


def factor(elements: NDArray[Any], ring_bits: int, dims: Dimensions, left: bool = False) -> Factor:
    """Prepare public ring elements for products by `dims`."""
    summed, batch = (group[0 if left else 1] for group in dims)
    if backend().fast_integers:
        return Factor(elements.shape, ring_bits, dims, left, ring_bits, None, _integers(elements, dims, left))
    real = as_batches(elements, summed, batch, last=left).astype(np.float64, order="C")
    largest = np.abs(real).sum(axis=2 if left else 1).max(initial=1.0)
    # A limb is a signed number of at most 2^(limb_bits - 1).
    limb_bits = EXACT_BITS + 1 - (math.ceil(largest) - 1).bit_length()
    made = Factor(elements.shape, ring_bits, dims, left, min(ring_bits, max(1, limb_bits)), real)
    if made.limbs <= tuning.FLOAT_LIMBS[ring_bits]:
        return made
    return replace(made, real=None, integers=_integers(elements, dims, left))


def _integers(elements: NDArray[Any], dims: Dimensions, left: bool) -> Prepared:
    summed, batch = (group[0 if left else 1] for group in dims)
    rows = as_batches(elements, summed, batch, last=True)
    return backend().prepare(Combination(rows, rows), left)


def times(x: Array, by: Factor) -> NDArray[Any]:
    """Return the dot_general of ring elements and the factor, exact modulo 2^ring_bits."""
    shape = result_shape(by.shape, x.shape, by.dims) if by.left else result_shape(x.shape, by.shape, by.dims)
    if by.integers is not None:
        other = _integers(x, by.dims, not by.left)
        pair = (by.integers, other) if by.left else (other, by.integers)
        return backend().multiply([pair]).reshape(shape)
    summed, batch = (group[1 if by.left else 0] for group in by.dims)
    rest = as_batches(x, summed, batch, last=not by.left)
    parts = []
    for _ in range(by.limbs - 1):
        limb, rest = _split(rest, by.limb_bits)
        parts.append(_product(limb, by))
    total = _product(rest, by)
    for part in reversed(parts):
        total = (total << np.int64(by.limb_bits)) + part
    return total.astype(x.dtype, copy=False).reshape(shape)


def _product(limb: NDArray[Any], by: Factor) -> NDArray[np.int64]:
    assert by.real is not None
    real = limb.astype(np.float64)
    product: NDArray[np.float64] = np.matmul(by.real, real) if by.left else np.matmul(real, by.real)
    return product.astype(np.int64)


def _split(values: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (the lowest bits as a signed number, the remaining ones)."""
    half, mask = values.dtype.type(1 << (bits - 1)), values.dtype.type((1 << bits) - 1)
    low = ((values + half) & mask) - half
    return low, (values - low) >> values.dtype.type(bits)
