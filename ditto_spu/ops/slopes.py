"""Tell by which factor an error of an operand reaches the result of an operation.

A calibration gives an operand the fraction bits that its readers need. A difference behind a quotient, for
example, may need more bits of the dividend than the dividend's own size tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The magnitudes of an array: the least one that is not zero, the usual one and the largest one."""

    least: float
    usual: float
    largest: float


# Of the operands and the result of an operation, to one factor for each operand.
Slopes = Callable[[Sequence[Sizes], Sizes], Sequence[float]]


def passed(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """The result holds elements of the operands, perhaps with another sign."""
    del result
    return [1.0] * len(operands)


def product(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """An error of one factor is multiplied by the other factor."""
    del result
    first, second = operands
    return second.usual, first.usual


def quotient(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """Errors are divided by the divisor, those of the divisor after a multiplication by the quotient."""
    least = operands[1].least
    return 1 / least, result.largest / least


def logarithm(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """The derivative of log(x) is 1/x."""
    del result
    return (1 / operands[0].least,)


def root(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """The derivative of sqrt(x) is sqrt(x) / 2x."""
    del result
    return (0.5 * operands[0].least ** -0.5,)


def inverse_root(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """The derivative of 1/sqrt(x) is -1 / (2x sqrt(x))."""
    del result
    return (0.5 * operands[0].least ** -1.5,)


def exponential(operands: Sequence[Sizes], result: Sizes) -> Sequence[float]:
    """The derivative of exp(x) is exp(x)."""
    del operands
    return (result.largest,)
