"""A plan has the public decisions for few rows in five rounds, and the bound of their error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ditto_kernels.norm.root_by_tables import ENTRIES, NUMBER_BITS, TERMS, Windows, fit_windows
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.party import Deal
from ditto_kernels.protocol.round_worth import limit
from ditto_kernels.sharing.lift_opened import Lift
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Fxp, signed

_WIDE = 64
_ROOM = _WIDE - 3  # the bits of sums and products, without sign and bias
_TOP_BITS = 9  # The result stays below 2^9.
_ROOT_BITS = 16  # the bits of the root where it is smallest
_WEIGHT_BITS = 14  # the fraction bits of public weights
_MOST_WEIGHT_BITS = 18  # the most fraction bits of shared weights
_GAMMA_LIMIT = 4.0  # The error bound holds for |gamma| up to this.


@dataclass(frozen=True)
class Few:
    """The public decisions.

    Rows are centred and multiplied by `factor`, their length. It is 1 where no mean is taken.
    """

    rows: int
    length: int
    factor: int
    x: Lift
    weight: Fxp
    shared: bool  # whether the weights are shared
    eps: int  # on the grid of the sums of squares
    windows: Windows
    weighted: Lift
    product_bits: int  # fraction bits of the last product

    name = "five rounds"

    def serves(self, worth: int) -> bool:
        """Return whether the rows are few where a saved round is worth so many bytes."""
        return self.rows <= limit(tuning.FIVE_ROUND_ROWS, worth)

    @property
    def centres(self) -> bool:
        return self.factor > 1

    @property
    def shrunk(self) -> float:
        """The number by which centred values are multiplied: `factor` and a power of two."""
        return self.factor / 2.0 ** _digits(self.factor)

    @cached_property
    def rounds(self) -> tuple[tuple[Deal, ...], ...]:
        """The values that A and B open in each round, as the masks that they draw."""
        vectors, count, wide = (self.rows, self.length), self.windows.count, signed(_WIDE)
        weight = (Deal("weight", (self.length,), wide),) if self.shared else ()
        total = (Deal("total", (self.rows, 1), wide),) if self.shared and self.centres else ()
        values = Deal("values", (self.rows, count), wide), Deal("pattern", (self.rows,), signed(8))
        return (
            (Deal("x", vectors, signed(self.x.ring)),),
            (*weight, *total, Deal("index", (self.rows, count), signed(32))),
            (Deal("weighted", vectors, wide), *values),
            (Deal("root", (self.rows, 1), wide),),
        )

    @cached_property
    def masks(self) -> tuple[Deal, ...]:
        """The masks of all rounds."""
        return tuple(mask for opened in self.rounds for mask in opened)

    @cached_property
    def dealt(self) -> tuple[Deal, ...]:
        """The items that are dealt before anything is opened."""
        rows, vectors, count, wide = self.rows, (self.rows, self.length), self.windows.count, signed(_WIDE)
        items = [
            Deal("squares", (rows, 1), wide),
            Deal("product", vectors, wide),
            Deal("polynomials", (TERMS, rows, count, ENTRIES), wide),
            Deal("choice", (rows, self.windows.patterns, 2 * count + 1), wide),
            Deal("bits", (rows, count - 1, ENTRIES), signed(8)),
        ]
        if self.shared:
            items.append(Deal("weighted", vectors, wide))
        if self.x.wraps:
            items.append(Deal("x_wraps", (3 + self.shared, *vectors), self.x.container))
        if self.weighted.wraps:
            items.append(Deal("wraps", (3, *vectors), self.weighted.container))
        return tuple(items)

    def shift(self, beta: Fxp) -> Fxp:
        """Return the format in which a shared beta is added."""
        return Fxp(_WIDE, min(beta.fraction_bits, self.product_bits))


def _digits(factor: int) -> int:
    return (factor - 1).bit_length()


def few(
    shape: tuple[int, ...],
    x: Fxp,
    weight: Fxp | None,
    out: Fxp,
    span: tuple[float, float],
    eps: float,
    least: int,
    centred: bool,
) -> Few | None:
    """Return the plan for rows whose variances, or mean squares, lie in `span`.

    Returns None if this form does not serve these formats. `Few.serves` says whether the rows are few.
    `weight` is the format of gamma, or None if gamma is public. `least` is the least number of fraction bits
    of the weighted values.
    """
    length, rows, (lo, hi) = shape[-1], math.prod(shape[:-1]), span
    if rows < 1 or length < 2 or x.ring_bits < 32:
        return None
    factor = length if centred else 1
    squares = portable.log2(factor * length * (hi + eps)) + 2 * x.fraction_bits
    spared = max(0, math.ceil((squares - NUMBER_BITS) / 2))
    lift, fraction = Lift(x.ring_bits, spared), x.fraction_bits - spared
    bits = _WEIGHT_BITS if weight is None else min(weight.fraction_bits, _MOST_WEIGHT_BITS)
    natural = fraction + _digits(factor) + bits
    root = _ROOT_BITS + max(0, math.ceil(portable.log2(hi) / 2))
    free = _WIDE - out.ring_bits + out.fraction_bits if out.ring_bits < _WIDE else _WIDE
    kept = min(natural, min(free, _ROOM - _TOP_BITS) - root)
    scale, shrunk = factor * length * 4.0**fraction, (factor / 2.0 ** _digits(factor)) ** 2
    found = fit_windows(scale / shrunk, lo * shrunk, (hi + eps) * shrunk, root)
    fits = lift.wraps_at >= _WIDE // 2 and _TOP_BITS + portable.log2(hi + eps) / 2 + natural < _ROOM
    if found is None or not fits or kept < least or kept + root < out.fraction_bits:
        return None
    weighted = Lift(_WIDE, natural - kept)
    steps = round(eps * scale)
    shared = weight is not None
    return Few(rows, length, factor, lift, Fxp(_WIDE, bits), shared, steps, found, weighted, kept + root)


def size(items: Sequence[Deal]) -> int:
    """Return the bytes of all items together."""
    return sum(math.prod(item.shape) * item.dtype.itemsize for item in items)


def few_error(plan: Few, x: Fxp, gamma: Fxp | None, span: tuple[float, float], out: Fxp) -> float:
    """Bound the error of `normalise` for |gamma| <= 4. Rows of the least variance decide."""
    (lo, hi), largest = span, math.sqrt(plan.length)
    grid = 1.5 * x.ulp * 2.0**plan.x.dropped if plan.x.dropped else 0.0
    relative = plan.windows.error + 1.5 * 2.0**-plan.windows.root_bits * math.sqrt(hi) + grid / math.sqrt(lo)
    kept = plan.product_bits - plan.windows.root_bits
    weighted = 1.5 * 2.0**-kept / (plan.shrunk * math.sqrt(lo)) if plan.weighted.dropped else 0.0
    exact = gamma is not None and gamma.fraction_bits <= plan.weight.fraction_bits
    weight = 0.0 if exact else plan.weight.ulp * (0.5 if gamma is None else 1.5)
    scaled = 2 * grid / math.sqrt(lo) + largest * relative
    return _GAMMA_LIMIT * scaled + largest * weight + weighted + 1.5 * out.ulp
