"""Fit the polynomials of kernels/activation/polynomial_tables.py by linear programming.

A fit has the smallest maximal error for which the sum of coefficients stays bounded. Run `python
docs/fit_polynomials.py` to print the tables: the coefficients of powers of t = x / scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import erf, expit

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A function to fit over [0, bound], by the given powers of x / scale.

    An even or odd function is determined by this half of its window.
    """

    function: Callable[[Any], Any]
    bound: float
    scale: float
    powers: tuple[int, ...]
    limit: float  # bounds the sum of the coefficients' magnitudes


def fit(case: Fit) -> tuple[float, dict[int, float]]:
    """Return (largest error, coefficient of every power)."""
    x = np.linspace(0, case.bound, 2001)
    basis = (x[:, None] / case.scale) ** np.asarray(case.powers)
    count, target, column = len(case.powers), case.function(x), np.ones((len(x), 1))
    none, identity = np.zeros((len(x), count)), np.eye(count)
    rows = np.vstack(
        [
            np.hstack([basis, -column, none]),
            np.hstack([-basis, -column, none]),
            np.hstack([identity, np.zeros((count, 1)), -identity]),
            np.hstack([-identity, np.zeros((count, 1)), -identity]),
            np.concatenate([np.zeros(count + 1), np.ones(count)])[None],
        ]
    )
    limits = np.concatenate([target, -target, np.zeros(2 * count), [case.limit]])
    goal = np.concatenate([np.zeros(count), [1.0], np.zeros(count)])
    bounds = [(None, None)] * count + [(0, None)] * (count + 1)
    solution = linprog(goal, A_ub=rows, b_ub=limits, bounds=bounds, method="highs").x
    return float(solution[count]), dict(zip(case.powers, solution[:count], strict=True))


FITS = {  # The even functions are GeLU and SiLU less x/2. Sigmoid is (1 + tanh(x/2)) / 2.
    "GELU even": Fit(lambda x: 0.5 * x * erf(x / np.sqrt(2)), 3.125, 4, (2, 4, 6, 8), 1000.0),
    "SILU even": Fit(lambda x: x * (expit(x) - 0.5), 7.0, 8, (2, 4, 6, 8, 10, 12), 10000.0),
    "TANH odd": Fit(np.tanh, 3.0, 4, (1, 3, 5, 7, 9), 1000.0),
}


def main() -> None:
    for name, case in FITS.items():
        error, values = fit(case)
        rounded = {power: round(float(value), 6) for power, value in values.items()}
        print(f"{name}: bound {case.bound}, scale {case.scale:g}, error {error:.6f}\n    {rounded}")


if __name__ == "__main__":
    main()
