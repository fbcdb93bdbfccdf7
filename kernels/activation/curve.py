"""A function that saturates, as the kernels know it: a window with a series, and tails."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Array, Fxp

NARROW = 16  # ring of the series' value; its sum in ring 32 leaves 16 bits to drop


@dataclass(frozen=True)
class Curve:
    """A function as a series inside, `below` and `above` (None: x) outside.

    Both serve where bound <= |x| <= outer: there the comparisons, which leave out low bits, may say either.
    """

    bound: float  # the tails hold beyond it
    outer: float  # the series holds within it
    period_bits: int  # period 2^period_bits
    harmonics: tuple[int, ...]
    half: bool  # whether x/2 is added to the series, which is then an even function
    constant: float
    cosine: tuple[float, ...]
    sine: tuple[float, ...]
    below: float
    above: float | None
    minimum: float  # a lower bound of every result, errors included: upcasts rely on it
    maximum: float  # of the function within `outer`
    slope: float  # largest of the series within `outer`, x/2 left out
    fit_error: float  # of the series within `outer`
    tail_error: float  # of the tails beyond `bound`

    def series(self, x: Array) -> NDArray[np.float64]:
        """The series, without the protocol's rounding."""
        real = np.asarray(x, dtype=np.float64)
        angle = np.multiply.outer(real, np.asarray(self.harmonics)) * (2 * np.pi / 2.0**self.period_bits)
        waves = np.cos(angle) @ np.asarray(self.cosine) + np.sin(angle) @ np.asarray(self.sine)
        return waves + self.constant + (real / 2 if self.half else 0)

    def tails(self, x: Array) -> NDArray[np.float64]:
        """What holds outside."""
        real = np.asarray(x, dtype=np.float64)
        return np.where(real < 0, self.below, real if self.above is None else self.above)

    def holds(self, x: Fxp) -> bool:
        """Whether a format has room for the period and for four windows, and two bits for the angle."""
        return x.ring_bits >= NARROW and 2 <= x.fraction_bits <= self.most_fraction_bits(x.ring_bits)

    def checked(self, x: Fxp) -> Curve:
        """This curve. ValueError if the format does not hold it."""
        if x.ring_bits < NARROW:
            raise ValueError(f"{x}: the series needs ring 16 or more; cast the operand to fxp16 first")
        if not self.holds(x):
            raise ValueError(
                f"{x} does not hold the window and the period of the series: "
                f"choose 2 to {self.most_fraction_bits(x.ring_bits)} fraction bits"
            )
        return self

    def most_fraction_bits(self, ring_bits: int) -> int:
        """Fraction bits with which that ring still holds this curve's operands."""
        return ring_bits - max(self.period_bits, math.ceil(math.log2(4 * self.outer)))

    @property
    def amplitudes(self) -> NDArray[np.float64]:
        return np.hypot(self.cosine, self.sine)

    @property
    def narrow_bits(self) -> int:
        """Most fraction bits with which the window's values fit ring 16, and its upcast."""
        return int(np.floor(np.log2((2**15 - 1) / (self.maximum - self.minimum + 0.5))))


@dataclass(frozen=True)
class Fits:
    """One function by a short series for ring 16, whose rounding is as large, and by a finer one."""

    short: Curve
    fine: Curve

    def at(self, x: Fxp) -> Curve:
        """The curve for operands in that format. ValueError if neither serves."""
        short = x.ring_bits == NARROW and self.short.holds(x)
        return self.short if short else self.fine.checked(x)
