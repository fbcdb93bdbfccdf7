"""The interface of local products: operands that a back end prepares once, and sums of their products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine.cells import Cells

if TYPE_CHECKING:
    from ditto_kernels.machine.compile import Processor


class Combination(NamedTuple):
    """The ring elements p x + q y, for two arrays of one signed type and shape (batch, free, terms).

    The factors of products of shares have this form: a component, or a sum of components. The arrays may have
    any strides. `y` is not read if q is 0.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    p: int = 1
    q: int = 0


@dataclass(frozen=True, eq=False)
class Prepared:
    """An operand in the form in which a back end multiplies it. It serves any number of products.

    shape: (batch, free, terms). dtype: the type of the ring elements. form: what belongs to the back end.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    form: Any


class Backend(Protocol):
    """A place where local products are computed. All back ends return the same bits.

    fast_integers: whether no product in float64 is faster than one of integers.
    least_terms: numpy is faster at products of fewer multiplications whose operands are not prepared.
    target: the processor for which code can be made, or None.
    """

    fast_integers: bool
    least_terms: int
    target: Processor | None

    @property
    def cells(self) -> Cells:
        """The steps of guards that are no products."""

    def prepare(self, operand: Combination, left: bool) -> Prepared:
        """Prepare a left or a right operand. The result does not share memory with the arrays."""

    def multiply(self, pairs: Sequence[tuple[Prepared, Prepared]]) -> NDArray[Any]:
        """Return the sum of the products of the pairs, which is a new array in the ring of the operands.

        A left operand (batch, m, k) and a right one (batch, n, k) make (batch, m, n). Every pair makes the
        same shape.
        """

    def sums(self, values: NDArray[Any], factors: NDArray[Any]) -> NDArray[Any]:
        """Return sums (batch, columns, rows) of matrices' rows with a few columns of factors.

        values: ring elements (batch, rows, terms), or numbers of a smaller unsigned type, with any strides.
        factors: (batch, columns, terms), or (1, columns, terms) for all of the batch. Sums are in their ring.
        """
