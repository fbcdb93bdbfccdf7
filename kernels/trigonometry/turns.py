"""Angles as integers: 2^64 units are one turn. Sums of angles wrap as angles do, and no bit is lost.

A fixed-point number becomes an angle by a constant of 128 bits, so that large numbers keep their digits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.values.formats import Array, unsigned

Angles = NDArray[np.uint64]
QUARTER = 1 << 62
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
# 2^200 / (2 pi), rounded down.
_PER_RADIAN = 0x28BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F
_PLACES = 200
_TERMS = 9  # of the Taylor series up to pi/4, whose remainder is below 2^-60


def angles(value: Array, fraction_bits: int) -> Angles:
    """Return the angles of unsigned fixed-point numbers of radians, given as ring elements.

    Error: 1 unit.
    """
    word = value.view(unsigned(8 * value.dtype.itemsize)).astype(np.uint64)
    factor = _PER_RADIAN >> (_PLACES - 128 + fraction_bits)
    high, low = np.uint64(factor >> 64), np.uint64(factor & (2**64 - 1))
    return word * high + _upper_half(word, low)


def angle_of(value: int, fraction_bits: int) -> np.uint64:
    """Return the angle of one public fixed-point number of any size, rounded down."""
    return np.uint64((value * _PER_RADIAN >> (_PLACES - 64 + fraction_bits)) % 2**64)


def _upper_half(value: Angles, factor: np.uint64) -> Angles:
    """Return the upper 64 bits of the products with a number of 64 bits."""
    upper, lower = value >> _HALF, value & _LOW
    top, bottom = factor >> _HALF, factor & _LOW
    middle = upper * bottom + (lower * bottom >> _HALF)
    return upper * top + (middle >> _HALF) + ((middle & _LOW) + lower * top >> _HALF)


def waves(angle: Angles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosine and sine. They take sums and products alone, so that all machines get the same bits.

    Error: 2^-50.
    """
    turns = angle.astype(np.float64) * 2.0**-62
    quarter = np.rint(turns)
    x = (turns - quarter) * (math.pi / 2)
    square = x * x
    cosine, sine = np.ones_like(x), np.ones_like(x)
    for term in range(_TERMS, 0, -1):
        cosine = 1.0 - square * cosine * (1.0 / ((2 * term - 1) * (2 * term)))
        sine = 1.0 - square * sine * (1.0 / ((2 * term) * (2 * term + 1)))
    sine = sine * x
    place = quarter.astype(np.int64) & 3
    swapped, negative = place % 2 == 1, place >= 2
    even, odd = np.where(swapped, -sine, cosine), np.where(swapped, cosine, sine)
    return np.where(negative, -even, even), np.where(negative, -odd, odd)
