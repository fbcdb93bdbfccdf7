"""Decide how one product of matrices is watched: which operand is summed, and how its wraps show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ditto_kernels.guard.random_sums import sizes
from ditto_kernels.guard.wraps import Shown, shown
from ditto_kernels.products.matmul import Dimensions, doubles
from ditto_kernels.products.multiply import symmetric
from ditto_kernels.values.replicated import Rss

MATRICES = ("matmul", "matmul_public")  # the kernels whose results are watched row by row


@dataclass(frozen=True)
class Watched:
    """One product, and how it is watched.

    one: the operand whose free dimension is summed. other: the other operand, which is shared.
    right: whether `one` is the right operand.
    y: the result. public_bits: the fraction bits of a public `one`.
    how: how its wraps show. row: what was added to each row of the result, if anything.
    """

    one: Any
    other: Any
    y: Any
    dims: Dimensions
    right: bool
    public_bits: int | None
    how: Shown
    row: Rss | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The sizes of the result: batch, left and right free dimensions."""
        return sizes(*((self.other, self.one) if self.right else (self.one, self.other)), self.dims)

    @property
    def summed(self) -> int:
        """The number of elements in a sum."""
        return self.sizes[2 if self.right else 1]


def watched(
    x: Any,
    w: Any,
    y: Any,
    *,
    dims: Dimensions,
    summed: str = "right",
    range: float | None = None,
    weight_fraction_bits: int | None = None,
    public_left: bool = False,
    within: float | None = None,
    row: Rss | None = None,
) -> Watched | None:
    """Return how to watch a product, or None where no wrap can be seen.

    x, w, y: operands and result of `matmul` or `matmul_public`, or their `Spec`, with its attributes. row: as
        in `guard_products`.
    summed, within: see `guard_products`.
    """
    public = weight_fraction_bits is not None
    ring = x.fxp.ring_bits
    bits = x.fxp.fraction_bits + (weight_fraction_bits if public else w.fxp.fraction_bits)
    try:
        double = not public and doubles(ring, bits, y.fxp, symmetric(range))
    except ValueError:  # the product is finished in another format and cast from there
        return None
    how = shown(ring, bits, y.fxp, range, double, within)
    if how is None:
        return None
    right = summed == "right"
    one, other = (x, w) if right == public_left else (w, x)
    return Watched(one, other, y, dims, right, weight_fraction_bits, how, row)
