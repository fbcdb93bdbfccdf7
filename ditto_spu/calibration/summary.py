"""Summarise the values that were observed: their extremes, a histogram, and their usual size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.ops.op import Span, span

STEPS = 4  # bins of the histogram per octave
USUAL = "usual size"  # the name of a fact, see `Observed.usual`
_COMMON = 0.99  # the part of the elements that counts there; the largest ones may be outliers
_MASSIVE = 1000.0, 50.0  # how large a massive value is, and how many times the 99th percentile
ZERO = -400  # the bin of zeros, and of all magnitudes below 2^-100


@dataclass(frozen=True)
class Observed:
    """The values observed at one place. `+` joins two of them.

    least, most: the extreme values.
    count: the number of values.
    histogram: by i, the number of magnitudes in [2^(i/4), 2^((i+1)/4)).
    facts: by name, the least and the largest value of further quantities that a protocol bounds, such as the
        variances of rows.
    """

    least: float
    most: float
    count: int
    histogram: Mapping[int, int]
    facts: Mapping[str, Span] = field(default_factory=dict)

    def __add__(self, other: Observed) -> Observed:
        bins = {**self.histogram}
        for each, count in other.histogram.items():
            bins[each] = bins.get(each, 0) + count
        facts = {**self.facts}
        for name, (low, high) in other.facts.items():
            known = facts.get(name, (low, high))
            facts[name] = min(low, known[0]), max(high, known[1])
        return Observed(
            min(self.least, other.least),
            max(self.most, other.most),
            self.count + other.count,
            dict(sorted(bins.items())),
            facts,
        )

    @property
    def largest(self) -> float:
        """Return the largest magnitude."""
        return max(abs(self.least), abs(self.most))

    @property
    def smallest(self) -> float:
        """Return the smallest magnitude that is not zero, down to the edge of its bin, or 0."""
        return min((2.0 ** (each / STEPS) for each in self.histogram if each != ZERO), default=0.0)

    @property
    def usual(self) -> float:
        """Return the root mean square of the magnitudes without the largest hundredth, or 0.

        Where several arrays were observed at one place, it is the least one of them.
        """
        if USUAL in self.facts:
            return self.facts[USUAL][0]
        for part in (_COMMON, 1.0):  # of arrays that are nearly all zero, the rest counts
            left, total = part * self.count, 0.0
            for each, count in sorted(self.histogram.items()):
                taken = min(count, left)
                left -= taken
                total += 0.0 if each == ZERO else taken * 4.0 ** ((each + 0.5) / STEPS)
            if total:
                return float(np.sqrt(total / (part * self.count)))
        return 0.0

    @property
    def massive(self) -> bool:
        """Whether a few values are far larger than all others, as at the first token of a decoder."""
        least, times = _MASSIVE
        return math.isfinite(self.largest) and self.largest >= max(
            least, times * self.percentile(100 * _COMMON)
        )

    def percentile(self, percent: float) -> float:
        """Return a magnitude that this percentage of the values does not exceed.

        It is the upper edge of a bin of the histogram, but at most the largest magnitude.
        """
        wanted, seen = percent / 100 * self.count, 0
        for each, count in sorted(self.histogram.items()):
            seen += count
            if seen >= wanted:
                return 0.0 if each == ZERO else min(2.0 ** ((each + 1) / STEPS), self.largest)
        return self.largest


def summary(value: NDArray[Any], facts: Mapping[str, Span] | None = None) -> Observed:
    """Return extremes and histogram of one array.

    A NaN counts as infinite. `facts` are added as they are.
    """
    low, high = span(value)
    magnitudes = np.nan_to_num(np.abs(np.asarray(value, np.float32)).ravel(), nan=np.inf)
    with np.errstate(divide="ignore"):
        places = np.floor(STEPS * np.log2(magnitudes))
    bins, counts = np.unique(np.clip(places, ZERO, -ZERO).astype(np.int32), return_counts=True)
    histogram = dict(zip(bins.tolist(), counts.tolist(), strict=True))
    seen = Observed(low, high, int(magnitudes.size), histogram, facts or {})
    usual = seen.usual
    return replace(seen, facts={**seen.facts, USUAL: (usual, usual)}) if usual else seen
