"""Tell in shares whether rows have a larger variance, or mean square, than a normalisation admits.

The variance itself would take as many bytes as the normalisation. A sum of a row with random signs is about
as large as the root of its sum of squares, and costs nothing but a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.random_sums import draw_seed, random_signs, weighted
from ditto_kernels.guard.range_guard import compared
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.wraps import WRAPS, Found, counted, reshared
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_SUMS, _LEAST, _MOST = 1024, 8, 64  # so many sums of all rows, and of every row at least and at most
_DEVIATIONS = 3.5  # sums are refused from so many of their deviations at the largest mean square
_FINE, _COARSE = 32, 4  # the factor of a scale: enough to meet the end well, and at least
_HALF = 1 << (WRAPS.fraction_bits - 1)
_NONE = np.zeros(0, WRAPS.dtype)
Limit = tuple[float, bool]


def repeats(rows: int) -> int:
    """Return how often each row is summed: few rows more often, so that all of them tell enough."""
    return max(_LEAST, min(_MOST, _SUMS // max(1, rows)))


def admits(length: int, fxp: Fxp, limit: float) -> bool:
    """Tell whether the ring has room for the sums of rows of such a variance or mean square."""
    return _end(length, limit) < fxp.limit / 2


@dataclass(frozen=True)
class _Scale:
    """How sums of rows are compared: times a factor and without their lowest bits, they stay below 2^8."""

    factor: int
    low: int


@lru_cache(maxsize=64)
def _scale(length: int, fxp: Fxp, limit: float) -> _Scale | None:
    """Return the scale of the sums, or None if the ring is too small to count them modulo 2^7."""
    if fxp.ring_bits < WRAPS.ring_bits:
        return None
    end, most = _end(length, limit) / fxp.ulp, fxp.ring_bits - WRAPS.ring_bits
    low = max(0, min(most, math.ceil(math.log2(end * _FINE / _HALF))))
    factor = math.floor(2.0**low * _HALF / end)
    return _Scale(factor, low) if factor >= _COARSE else None


def _end(length: int, limit: float) -> float:
    return _DEVIATIONS * math.sqrt(length * limit)


def guard_spreads(party: Party, *values: Rss, out: Fxp, limits: Sequence[Limit]) -> Protocol[Rss]:
    """Return numbers below 1/2 in magnitude if no row looks larger than its limit.

    values: of shape (..., n). limits: of each, the largest variance of a row and True, or the largest mean
    square and False. Returns `out` = fxp16.9 [sums + 4]. Each row is summed with random signs, 8 to 64 times
    (`repeats`). A sum has the deviation sqrt(n v) for a row of variance v. It is scaled so that it reaches
    1/2 somewhere from 3.5 to 4.4 sqrt(n limit), modulo 2^7. In rings that are too small to count so far, sums
    are compared exactly and count as 0, and the last four numbers are random if any is too large.

    Range: a sum of a row below a third of its limit is refused with a probability below 2e-8. One row of 64
    times the limit is found with probability 0.999 by 8 sums, and one of 256 times with 1 - 6e-6. Rows of 4
    times the limit are missed with a probability below 1e-12 if there are 128 of them, and 1e-6 if there are
    8. A sum above 127 times its end may be missed. Error: less than 1/2.

    Cost: 48 bits a sum, in 1 round, and in small rings an exact comparison, in 4 rounds. Security: signs are
    public and independent of every value. The sums are local, and the rest is `counted` or `guard_ranges`.
    Source: Johnson and Lindenstrauss; our own.
    """
    if out != WRAPS:
        raise ValueError(f"the answer is in {WRAPS}")
    seed = yield from draw_seed(party)
    outside = yield from compare_spreads(party, seed, values, limits)
    return (yield from reshared(party, [count_spreads(party, seed, values, limits), Found(_NONE, outside)]))


def count_spreads(party: Party, seed: Array, values: Sequence[Rss], limits: Sequence[Limit]) -> Found:
    """Return the scaled sums of rows, and zeros for those that are compared. seed: see `draw_seed`."""
    sums = []
    for place, (x, scale, limit) in enumerate(_scaled(values, limits)):
        if scale is None:
            sums.append((np.zeros(_sums_of(x), WRAPS.dtype), 0))
        else:
            factors = _signs(seed, place, x, limit, scale.factor)
            sums.append((weighted(_rows(x.mine), factors), scale.low))
    return Found(counted(party, sums) if sums else _NONE)


def compare_spreads(
    party: Party, seed: Array, values: Sequence[Rss], limits: Sequence[Limit]
) -> Protocol[list[Array]]:
    """Compare the sums of rows that are too large to count. Returns bits as `find_outside` does."""
    running = []
    for place, (x, scale, limit) in enumerate(_scaled(values, limits)):
        if scale is None:
            factors, end = _signs(seed, place, x, limit, 1), _end(x.shape[-1], limit[0])
            whole = Rss(weighted(_rows(x.mine), factors), weighted(_rows(x.next), factors), x.fxp)
            running.append(compared(party.at(f"spread{place}"), whole, (-end, end)))
    found: list[Array] = yield from parallel(*running)
    return found


def _scaled(values: Sequence[Rss], limits: Sequence[Limit]) -> Iterator[tuple[Rss, _Scale | None, Limit]]:
    for x, limit in zip(values, limits, strict=True):
        yield x, _scale(x.shape[-1], x.fxp, limit[0]), limit


def _sums_of(x: Any) -> int:
    count = math.prod(x.shape[:-1])
    return count * repeats(count)


def _signs(seed: Array, place: int, x: Rss, limit: Limit, factor: int) -> Array:
    count = repeats(math.prod(x.shape[:-1]))
    return random_signs(seed, place, x.shape[-1], limit[1], count, factor, x.fxp.dtype)


def _rows(value: Array) -> Array:
    return value.reshape(1, -1, value.shape[-1])


def spreads_of(values: Sequence[Any], limits: Sequence[Limit]) -> int:
    """Return how many numbers `guard_spreads` returns for operands of these shapes."""
    return sum(map(_sums_of, values)) + LIMBS


def _reference(*values: Array, limits: Sequence[Limit]) -> NDArray[Any]:
    """Return zeros: rows within their limits are not refused."""
    return np.zeros(spreads_of(values, limits))


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.5


SPREAD_GUARD = Kernel(
    "spread_guard",
    guard_spreads,
    _reference,
    _error,
    "Johnson, Lindenstrauss 1984, on shares; our own",
    all_deal=True,
)
