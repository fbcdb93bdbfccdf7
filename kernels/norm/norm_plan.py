"""The public decisions of a layer or RMS normalisation: the formats of what it computes, and its error."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from ditto_kernels.inverse.by_thresholds import Table, fit_table
from ditto_kernels.norm.five_rounds_plan import Few, few, few_error
from ditto_kernels.products.low_bits import LOW
from ditto_kernels.products.multiply import finish_kind
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Fxp

_WIDE = 64
VARIANCE = (2.0**-11, 2.0**8)  # Real models have rows with variances of 0.002 and 129 side by side.
_ROOT_BITS = 14  # the bits of the reciprocal standard deviation where it is smallest
_SQUARES_BITS = 46  # the bits of the sum of a row's squares, for which multipliers have at least 16 bits
_LEAST_BITS, _MOST_BITS = 12, 52  # the bits of n^2 times the variance of a row, in ulp of the squares
_TOP_BITS = 9  # The result stays below 2^9.
_GAMMA_LIMIT = 4.0  # The error bound holds for |gamma| up to this.


@dataclass(frozen=True)
class Plan:
    """The public decisions of one layer normalisation."""

    shape: tuple[int, ...]
    centred: Fxp  # the format of x - mean
    gamma: Fxp
    squares: Fxp  # the format of the row sums of centred squares
    eps: int  # n * eps on the grid of the squares
    inverse: Table
    root: Fxp  # the format of the reciprocal standard deviation
    landing: Fxp
    divisor: int  # the number by which the squares are too large: the length, or its square
    low: bool  # whether rows are normalised modulo 2^48 before they meet gamma
    few: Few | None = None  # the plan for few rows, if it serves these formats

    def few_of(self, worth: int) -> Few | None:
        """Return the plan for few rows, if they are few where a saved round is worth so many bytes."""
        return self.few if self.few is not None and self.few.serves(worth) else None

    @property
    def length(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> tuple[int, ...]:
        return (*self.shape[:-1], 1)

    @property
    def product_bits(self) -> int:
        """The fraction bits of the last product."""
        return self.centred.fraction_bits + self.gamma.fraction_bits + self.root.fraction_bits

    @property
    def low_bits(self) -> int:
        """The fraction bits of rows that are normalised modulo 2^48."""
        return self.centred.fraction_bits + self.root.fraction_bits - (_WIDE - LOW)


@lru_cache(maxsize=64)
def plan_norm(
    shape: tuple[int, ...],
    fxp: Fxp,
    gamma: Fxp | None,
    out: Fxp,
    *,
    dim: int = -1,
    eps: float = 1e-12,
    inner: Fxp | None = None,
    variance: tuple[float, float] = VARIANCE,
    root_bits: int = _ROOT_BITS,
    weights: tuple[tuple[int, int], ...] = ((14, 2), (12, 0), (11, 0)),  # The mean matters more than gamma.
    centred: bool = True,
) -> Plan:
    """Choose formats so that no product leaves its ring for the declared variances.

    `root_bits` are the bits of the inverse root where it is smallest. `weights` pairs the fraction bits of
    gamma with the bits that centred values must have beyond those of x, and the first pair that fits is
    taken. `centred` says whether the mean is taken. Raises ValueError if no formats serve.
    """
    if dim % len(shape) != len(shape) - 1:
        raise ValueError(f"normalisation works over the last dimension, not over dimension {dim}")
    if inner is not None and inner.ring_bits != _WIDE:
        raise ValueError(f"normalisation computes in a ring of {_WIDE} bits, not in {inner}")
    length, (lo, hi) = shape[-1], variance
    least = max(fxp.fraction_bits, inner.fraction_bits if inner is not None else 0)
    root = root_bits + max(0, math.ceil(portable.log2(hi) / 2))
    free, total = _WIDE - out.ring_bits + out.fraction_bits, _WIDE - 3 - _TOP_BITS
    # The ring can sum squares of these bits.
    squared = (_WIDE - 2 - math.ceil(portable.log2(hi * length))) // 2
    for budget, landing in ((min(free, total), out), (total, Fxp(_WIDE, out.fraction_bits))):
        if landing is out and out.ring_bits == _WIDE:
            continue
        for most, spare in weights:
            weight = most if gamma is None else min(gamma.fraction_bits, most)
            bits = min(budget - root - weight, least + 4, squared)
            dropped = bits + weight + root - landing.fraction_bits
            if bits >= least + spare and finish_kind(_WIDE, dropped, landing):
                formats = Fxp(_WIDE, bits), Fxp(_WIDE, weight), Fxp(_WIDE, root), landing
                low = centred and gamma is not None and landing is out and _fits_low(fxp, length, lo, hi)
                # A product modulo 2^48 drops 16 bits. So many must be left over, before and after gamma.
                low = low and min(bits + root, dropped) >= _WIDE - LOW
                squares = _squares(fxp if low else formats[0], hi * length, low)
                plan = _complete(shape, formats, eps, lo, hi, length**2 if low else length, squares, low)
                return replace(plan, few=few(shape, fxp, gamma, out, variance, eps, least, centred))
    raise ValueError(
        f"normalisation from {fxp} to {out}, {length} elements a row of a variance up to {hi:g}: "
        f"too many fraction bits for a ring of {_WIDE} bits"
    )


def _fits_low(fxp: Fxp, length: int, lo: float, hi: float) -> bool:
    """Return whether squares of rows that are not centred fit, and have bits enough for the least variance.

    Rows must come from a smaller ring, because what leaves its cast is a mask at the dealer.
    """
    scale = length**2 * fxp.ulp**-2
    return fxp.ring_bits < _WIDE and hi * scale < 2.0**_MOST_BITS and lo * scale >= 2.0**_LEAST_BITS


def _squares(fxp: Fxp, largest: float, low: bool) -> Fxp:
    """Return the format of squares of rows in `fxp`, whose sums stay below `largest`."""
    if low:
        return Fxp(_WIDE, 2 * fxp.fraction_bits)
    room = _SQUARES_BITS - math.ceil(portable.log2(largest))
    return Fxp(_WIDE, min(2 * fxp.fraction_bits if fxp.fraction_bits <= 14 else 26, room))


def _complete(
    shape: tuple[int, ...],
    formats: tuple[Fxp, Fxp, Fxp, Fxp],
    eps: float,
    lo: float,
    hi: float,
    divisor: int,
    squares: Fxp,
    low: bool,
) -> Plan:
    centred, gamma, root, landing = formats
    plan = fit_table("rsqrt", squares, lo, hi, root, divisor)
    small = round(eps * divisor * 2.0**squares.fraction_bits)
    return Plan(shape, centred, gamma, squares, small, plan, root, landing, divisor, low)


def scaled_error(plan: Plan, gamma: Fxp | None, variance: tuple[float, float], shift: float) -> float:
    """Bound the error of `scaled` with its truncation.

    It holds for |gamma| <= 4 and centred values that are off by `shift`.
    """
    lo, hi = variance
    relative = plan.inverse.error + 1.5 * plan.root.ulp * math.sqrt(hi) + shift**2 / lo
    relative += 2 * plan.squares.ulp / (plan.divisor * lo)
    largest = math.sqrt(plan.length)
    grid = plan.gamma.ulp * (
        1.5 if gamma is not None and gamma.fraction_bits > plan.gamma.fraction_bits else 0.5
    )
    units = shift / math.sqrt(lo) + largest * relative
    if plan.low:
        units += 1.5 * 2.0**-plan.low_bits
    return _GAMMA_LIMIT * units + largest * grid + 1.5 * plan.landing.ulp


def norm_error(
    plan: Plan, x: Fxp, gamma: Fxp | None, variance: tuple[float, float], shift: float, out: Fxp
) -> float:
    """Bound the error of a norm for |gamma| <= 4, by whichever form it is computed."""
    few = 0.0 if plan.few is None else few_error(plan.few, x, gamma, variance, out)
    if plan.few_of(ROUND_WORTH) is not None:
        return few  # Rows that are few on every network take no other form.
    bound = scaled_error(plan, gamma, variance, shift)
    return max(few, bound + (1.5 * out.ulp if plan.landing.fraction_bits > out.fraction_bits else 0.0))
