"""A curve describes a function by a series inside a window and by constants or x outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp

NARROW = 16  # The ring of the series' value. Its sum in ring 32 leaves 16 bits to drop.


def tail_room(x: Fxp, out: Fxp, end: float) -> float:
    """Return the magnitude below which x can be compared with +-end and become the upper tail in `out`.

    Comparisons add the end to x. Ring 16 is lifted with the bias of the function's minimum, and other casts
    that are not local need a bit to spare (`convert`).
    """
    dropped = x.fraction_bits - out.fraction_bits
    lifted = x.ring_bits == NARROW < out.ring_bits
    local = out.ring_bits <= x.ring_bits and dropped <= 0
    narrowed = 0 <= dropped <= x.ring_bits - out.ring_bits
    room = x.limit - end
    return room if lifted or local or narrowed else min(room, x.limit / 2)


@dataclass(frozen=True)
class Curve:
    """A function is a series inside a window. Outside it is `below` or `above`, where None stands for x.

    Both hold where bound <= |x| <= outer. The comparisons leave out low bits, so that there they may give
    either answer.
    """

    bound: float  # the tails hold beyond this magnitude
    outer: float  # the series holds within this magnitude
    period_bits: int  # the period is 2^period_bits
    harmonics: tuple[int, ...]
    half: bool  # whether x/2 is added to the series, which is then an even function
    constant: float
    cosine: tuple[float, ...]
    sine: tuple[float, ...]
    below: float
    above: float | None
    minimum: float  # a lower bound of every result, errors included: upcasts rely on it
    maximum: float  # the largest value of the function within `outer`
    slope: float  # the largest slope of the series within `outer`, without x/2
    fit_error: float  # the largest error of the series within `outer`
    tail_error: float  # the largest error of the tails beyond `bound`

    def series(self, x: Array) -> NDArray[np.float64]:
        """Evaluate the series in plaintext, without the protocol's rounding."""
        real = np.asarray(x, dtype=np.float64)
        angle = np.multiply.outer(real, np.asarray(self.harmonics)) * (2 * np.pi / 2.0**self.period_bits)
        waves = np.cos(angle) @ np.asarray(self.cosine) + np.sin(angle) @ np.asarray(self.sine)
        return waves + self.constant + (real / 2 if self.half else 0)

    def tails(self, x: Array) -> NDArray[np.float64]:
        """Evaluate the tails, which hold outside the window."""
        real = np.asarray(x, dtype=np.float64)
        return np.where(real < 0, self.below, real if self.above is None else self.above)

    def holds(self, x: Fxp) -> bool:
        """Return whether a format has room for the period, for four windows and for two bits of the angle."""
        return x.ring_bits >= NARROW and 2 <= x.fraction_bits <= self.most_fraction_bits(x.ring_bits)

    def room(self, x: Fxp, out: Fxp) -> float:
        """Return the magnitude below which every operand of `clipped` gives the right result in `out`."""
        room = x.limit - self.outer
        return room if self.above is not None else tail_room(x, out, self.outer)

    def checked(self, x: Fxp) -> Curve:
        """Return this curve. Raises ValueError if the format does not hold it."""
        if x.ring_bits < NARROW:
            raise ValueError(f"{x}: the series needs ring 16 or more; cast the operand to fxp16 first")
        if not self.holds(x):
            raise ValueError(
                f"{x} does not hold the window and the period of the series: "
                f"choose 2 to {self.most_fraction_bits(x.ring_bits)} fraction bits"
            )
        return self

    def most_fraction_bits(self, ring_bits: int) -> int:
        """Return the most fraction bits with which that ring still holds this curve's operands."""
        return ring_bits - max(self.period_bits, math.ceil(portable.log2(4 * self.outer)))

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        return portable.hypot(np.asarray(self.cosine), np.asarray(self.sine))

    @property
    def narrow_bits(self) -> int:
        """The most fraction bits with which the window's values fit ring 16 and the upcast from it."""
        return math.floor(portable.log2((2**15 - 1) / (self.maximum - self.minimum + 0.5)))


@dataclass(frozen=True)
class Fits:
    """One function has two series: a short one for ring 16 and a finer one.

    The error of the short series is about as large as the rounding of ring 16.
    """

    short: Curve
    fine: Curve

    def at(self, x: Fxp) -> Curve:
        """Return the curve for operands in that format. Raises ValueError if neither serves."""
        short = x.ring_bits == NARROW and self.short.holds(x)
        return self.short if short else self.fine.checked(x)
