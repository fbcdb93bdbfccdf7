"""Numbers that every processor computes alike, bit for bit: powers, logarithms, exponentials and fits.

Two parties multiply shares by public numbers that each of them computes. If these differed in the last bit,
the result would be garbage. The functions of libm, numpy and BLAS choose their instructions by the processor.
Here only such operations are used as IEEE 754 rounds in one way: sums, products, quotients and roots of two
numbers, in a fixed order, and Python's decimal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal, DivisionByZero, InvalidOperation
from functools import lru_cache

import numpy as np

from ditto_kernels.values.formats import Array

# So many digits that rounding to a float gives one result.
_CONTEXT = Context(prec=40, traps=[InvalidOperation, DivisionByZero])
_SPANNED = 2.0**-44  # a column whose rest is smaller has only rounding left
_TWO = _CONTEXT.ln(Decimal(2))
_CACHED = 1 << 12
_TERMS = 12  # of the series of cosine and sine up to an eighth of a turn
_EXPONENTIAL_TERMS = 28  # of the exponential up to 2


@lru_cache(maxsize=_CACHED)
def exp(x: float) -> float:
    """Return e^x."""
    return float(_CONTEXT.exp(Decimal(x)))


@lru_cache(maxsize=_CACHED)
def log2(x: float) -> float:
    """Return the logarithm of x to base 2. Raises ValueError unless x is positive."""
    if not x > 0:
        raise ValueError(f"{x:g} has no logarithm")
    return float(_CONTEXT.divide(_CONTEXT.ln(Decimal(x)), _TWO))


@lru_cache(maxsize=_CACHED)
def power(x: float, exponent: float) -> float:
    """Return x^exponent for a positive x."""
    return float(_CONTEXT.power(Decimal(x), Decimal(exponent)))


def hypot(x: Array, y: Array) -> Array:
    """Return the root of x^2 + y^2, by elements."""
    return np.sqrt(x * x + y * y)


def waves(turns: Array) -> tuple[Array, Array]:
    """Return cosine and sine of 2 pi times each element."""
    quarters = np.rint(4 * turns)
    angle = (4 * turns - quarters) * (math.pi / 2)  # at most an eighth of a turn
    square = angle * angle
    cosine, sine = np.ones_like(angle), np.ones_like(angle)
    for term in range(2 * _TERMS, 0, -2):
        cosine = 1 - square / (term * (term - 1)) * cosine
        sine = 1 - square / (term * (term + 1)) * sine
    sine = sine * angle
    place = quarters % 4
    odd = place % 2 == 1
    even_part, odd_part = np.where(odd, -sine, cosine), np.where(odd, cosine, sine)
    sign = np.where(place >= 2, -1.0, 1.0)
    return sign * even_part, sign * odd_part


def exponentials(x: Array) -> Array:
    """Return e^x by elements, for 0 <= x <= 2."""
    total = np.ones_like(x)
    for term in range(_EXPONENTIAL_TERMS, 0, -1):
        total = 1 + x / term * total
    return total


def powers(x: Array, exponent: float) -> Array:
    """Return x^exponent by elements, for the exponents -1, -1/2, 1/2 and 1."""
    if abs(exponent) not in (0.5, 1.0):
        raise ValueError(f"the exponent {exponent:g} is none of -1, -1/2, 1/2 and 1")
    found = x if abs(exponent) == 1 else np.sqrt(x)
    return found if exponent > 0 else 1 / found


def least_squares(columns: Sequence[Array], target: Array) -> tuple[float, ...]:
    """Return the coefficients of the columns whose combination is nearest to the target.

    columns, target: arrays (n), where n is a power of two. The columns are orthogonalised by the modified
    method of Gram and Schmidt, each of them twice. A column that the earlier ones span gets 0.
    """
    basis: list[Array] = []
    triangle: list[list[float]] = []
    for column in columns:
        rest, above = column, [0.0] * len(basis)
        for _ in range(2):
            for place, each in enumerate(basis):
                part = _dot(each, rest)
                rest = rest - part * each
                above[place] += part
        size = math.sqrt(_dot(rest, rest))
        if size <= _SPANNED * math.sqrt(_dot(column, column)):
            rest, size = np.zeros_like(rest), 1.0
        basis.append(rest / size)
        triangle.append([*above, size])
    left, found = target, []
    for each in basis:
        found.append(_dot(each, left))
        left = left - found[-1] * each
    for place in reversed(range(len(basis))):
        found[place] /= triangle[place][place]
        for above_place in range(place):
            found[above_place] -= triangle[place][above_place] * found[place]
    return tuple(found)


def combination(columns: Sequence[Array], coefficients: Sequence[float]) -> Array:
    """Return the sum of the columns times their coefficients, in their order."""
    total = coefficients[0] * columns[0]
    for column, coefficient in zip(columns[1:], coefficients[1:], strict=True):
        total = total + coefficient * column
    return total


def _dot(x: Array, y: Array) -> float:
    """Return the sum of products. Halves are added until one number is left, which fixes the order."""
    total = x * y
    while total.size > 1:
        half = total.size // 2
        total = total[:half] + total[half:]
    return float(total[0])
