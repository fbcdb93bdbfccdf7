"""Fit the trigonometric series of kernels/curves.py: smallest maximal error, bounded sum of coefficients.

Run `python docs/fit_series.py` to print the tables. A linear program over a dense grid: minimise e subject to
|series - f| <= e inside the window and sum |coefficient| <= limit, so that rounding is not amplified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import erf, expit

Real = NDArray[np.float64]


def fit(
    function: Callable[[Any], Any], bound: float, period: float, harmonics: tuple[int, ...], limit: float
) -> tuple[float, Real]:
    """(largest error, coefficients: constant, cosines, sines)."""
    x = np.linspace(-bound, bound, 1601)
    angle = np.multiply.outer(x, np.asarray(harmonics)) * (2 * np.pi / period)
    basis = np.hstack([np.ones((len(x), 1)), np.cos(angle), np.sin(angle)])
    count = basis.shape[1]
    target = function(x)
    ones, zero, identity = np.ones((len(x), 1)), np.zeros((len(x), count)), np.eye(count)
    column = np.zeros((count, 1))
    budget = np.concatenate([np.zeros(count + 2), np.ones(count - 1)])[None]
    rows = np.vstack(
        [
            np.hstack([basis, -ones, zero]),
            np.hstack([-basis, -ones, zero]),
            np.hstack([identity, column, -identity]),
            np.hstack([-identity, column, -identity]),
            budget,
        ]
    )
    limits = np.concatenate([target, -target, np.zeros(2 * count), [limit]])
    goal = np.zeros(2 * count + 1)
    goal[count] = 1
    bounds = [(None, None)] * count + [(0, None)] * (count + 1)
    solution = linprog(goal, A_ub=rows, b_ub=limits, bounds=bounds, method="highs").x
    return float(solution[count]), solution[:count]


def gelu(x: Real) -> Real:
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


FITS = {  # function, outer window, period in bits, harmonics, limit of the coefficients' sum
    "GELU.short": (gelu, 3.25, 6, (1, 8, 21), 12.0),
    "GELU.fine": (gelu, 3.5, 4, (1, 2, 3, 6), 12.0),
    "SILU.short": (lambda x: x * expit(x), 7.5, 6, (1, 3, 8, 13, 19), 24.0),
    "SILU.fine": (lambda x: x * expit(x), 8.5, 5, (1, 2, 3, 4, 7, 10), 24.0),
    "TANH.short": (np.tanh, 3.5, 6, (4, 13, 24, 37), 6.0),
    "TANH.fine": (np.tanh, 4.0, 4, (1, 2, 4, 6, 8, 11), 6.0),
    "SIGMOID.short": (expit, 7.0, 6, (3, 6, 9, 16), 6.0),
    "SIGMOID.fine": (expit, 7.0, 5, (1, 2, 4, 6, 9), 6.0),
}


def main() -> None:
    for name, (function, outer, period_bits, harmonics, limit) in FITS.items():
        error, values = fit(function, outer, 2.0**period_bits, harmonics, limit)
        rounded = [0.0 if abs(value) < 1e-6 else round(float(value), 7) for value in values]
        count = len(harmonics)
        print(f"{name}: outer {outer}, period 2^{period_bits}, harmonics {harmonics}, error {error:.6f}")
        print(f"    constant={rounded[0]},")
        print(f"    cosine={tuple(rounded[1 : count + 1])},")
        print(f"    sine={tuple(rounded[count + 1 :])},")


if __name__ == "__main__":
    main()
