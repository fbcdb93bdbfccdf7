"""Tell in shares whether rows have a larger variance, or mean square, than a normalisation admits.

The variance itself would take as many bytes as the normalisation. A sum of a row with random signs is about
as large as the root of its sum of squares, and costs nothing but a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.random_sums import random_signs, weighted
from ditto_kernels.guard.range_guard import compared, reshared
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_SUMS, _LEAST, _MOST = 1024, 8, 64  # so many sums of all rows, and of every row at least and at most
_DEVIATIONS = 3.5  # sums are refused from so many of their deviations at the largest mean square
Limit = tuple[float, bool]


def repeats(rows: int) -> int:
    """Return how often each row is summed: few rows more often, so that all of them tell enough."""
    return max(_LEAST, min(_MOST, _SUMS // max(1, rows)))


def admits(length: int, fxp: Fxp, limit: float) -> bool:
    """Tell whether the ring has room for the sums of rows of such a variance or mean square."""
    return _DEVIATIONS * math.sqrt(length * limit) < fxp.limit / 2


def guard_spreads(party: Party, *values: Rss, out: Fxp, limits: Sequence[Limit]) -> Protocol[Rss]:
    """Return 0 if no row looks larger than its limit, and random numbers otherwise.

    values: of shape (..., n). limits: of each, the largest variance of a row and True, or the largest mean
    square and False. Returns `out` = fxp16.9 [4], as `guard_ranges` does.

    Each row is summed with random signs, 8 to 64 times (`repeats`). A sum has the deviation sqrt(n v) for a
    row of variance v, and is refused from 3.5 sqrt(n limit) on.

    Range: a sum of a row below a third of its limit is refused with a probability below 2e-8. One row of 64
    times the limit is found with probability 0.998 by 8 sums, and one of 256 times with 1 - 2e-6. Rows of 4
    times the limit are missed with a probability below 1e-35 if there are 128 of them, and 1e-18 if there are
    8. A sum that leaves the ring may be missed. Error: none.

    Cost: 8 to 64 exact comparisons a row, in 4 rounds. Security: signs are public and independent of every
    value. The sums are local, and the rest is `guard_ranges`. Source: Johnson and Lindenstrauss; our own.
    """
    if out != WRAPS or len(values) != len(limits):
        raise ValueError(f"each value has a limit, and the answer is in {WRAPS}")
    kinds = [
        (x.shape[-1], centred, repeats(math.prod(x.shape[:-1])))
        for x, (_, centred) in zip(values, limits, strict=True)
    ]
    signs = yield from random_signs(party, kinds)
    found = []
    for place, (x, (limit, _), some) in enumerate(zip(values, limits, signs, strict=True)):
        sums = Rss(weighted(_rows(x.mine), some), weighted(_rows(x.next), some), x.fxp)
        most = _DEVIATIONS * math.sqrt(x.shape[-1] * limit)
        found.append(compared(party.at(f"spread{place}"), sums, (-most, most)))
    return (yield from reshared(party, (yield from parallel(*found))))


def _rows(value: Array) -> Array:
    return value.reshape(1, -1, value.shape[-1])


def _reference(*values: Array, limits: Sequence[Limit]) -> NDArray[Any]:
    """Return zeros: rows within their limits are not refused."""
    return np.zeros(LIMBS)


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.0


SPREAD_GUARD = Kernel(
    "spread_guard",
    guard_spreads,
    _reference,
    _error,
    "Johnson, Lindenstrauss 1984, on shares; our own",
    all_deal=True,
)
