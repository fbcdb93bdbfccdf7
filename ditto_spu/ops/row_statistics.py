"""Recognise means and deviations of rows, which normalisations consist of, and bound what they return."""

import math

import numpy as np

from ditto_spu import ir
from ditto_spu.ir.arithmetic import Seen, close, peel, row_mean, splat, squared, whole

_LEEWAY = 1 + 2.0**-5  # kernels round what they normalise


def centred(seen: Seen) -> ir.Value | None:
    """Return x if the value is x - mean(x) over the last dimension, else None."""
    if seen.name != "subtract" or seen.op is None:
        return None
    x = seen.op.operands[0]
    mean = row_mean(whole(seen.op.operands[1]))
    return x if mean == (x, len(ir.shape(x)) - 1) else None


def deviation(seen: Seen, divides: bool) -> tuple[Seen, float] | None:
    """Return (variance, eps) if the factor is 1/sqrt(variance + eps), else None. Without eps it is 0.

    divides: whether the factor stands below the line of a quotient.
    """
    if seen.name == "power" and seen.op is not None:
        right = close(splat(seen.op.operands[1]), 0.5 if divides else -0.5)
    else:
        right = seen.name == ("sqrt" if divides else "rsqrt")
    if not right:
        return None
    inside = peel(seen.operand(0))
    if inside.name == "add" and inside.op is not None:
        for index in (0, 1):
            eps = splat(inside.op.operands[1 - index])
            if eps is not None:
                return inside.operand(index), eps
    return inside, 0.0


def is_variance(seen: Seen, x: ir.Value) -> bool:
    """Tell whether a value is E[(x-m)^2], or E[x^2] - m^2, perhaps with 0 as a lower bound."""
    seen, row = peel(seen), (x, len(ir.shape(x)) - 1)
    if seen.name == "maximum" and seen.op is not None:
        zero = [splat(each) == 0 for each in seen.op.operands]
        seen = peel(seen.operand(zero.index(False))) if sum(zero) == 1 else seen
    if seen.name == "subtract":
        square = row_mean(seen.operand(0))
        other = peel(seen.operand(1))
        mean = squared(other.value)
        return (
            square is not None
            and (squared(square[0]), square[1]) == row
            and mean is not None
            and row_mean(Seen(mean, other.dims)) == row
        )
    mean_square = row_mean(seen)
    inner = squared(mean_square[0]) if mean_square is not None else None
    return inner is not None and mean_square is not None and (centred(whole(inner)), mean_square[1]) == row


def normalised_rows(op: ir.Op, at: ir.At) -> ir.Rows | None:
    """Bound the rows of x / sqrt(mean of squares) * gamma + beta, where gamma and beta have bounds.

    The operands are x, gamma and perhaps beta. The n elements of a row have a mean square of 1 at most before
    gamma, so that the row has the length sqrt(n).
    """
    result, (_, gamma, *shift) = op.results[0], op.operands
    n = ir.shape(result)[-1]
    length = math.sqrt(n) * _largest(at(gamma))
    for beta in shift:
        known = ir.known_elements(beta)
        length += math.sqrt(n) * _largest(at(beta)) if known is None else float(np.linalg.norm(known))
    if not math.isfinite(length):
        return None
    length *= _LEEWAY
    return ir.Rows(len(ir.shape(result)) - 1, length, math.sqrt(n) * length)


def _largest(interval: ir.Interval) -> float:
    return max(abs(interval[0]), abs(interval[1]))
