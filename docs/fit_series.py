"""Fit the trigonometric series of kernels/activation/series_tables.py by linear programming.

Run `python docs/fit_series.py` to print the tables. The linear program works on a dense grid. It minimises e
subject to |series - f| <= e inside the window (times `edge` near its ends), and to sum |coefficient| <=
limit, so that rounding is not amplified.
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
    """A function to fit, less x/2 if `half`, over [-outer, outer]."""

    function: Callable[[Any], Any]
    outer: float
    period_bits: int
    harmonics: tuple[int, ...]
    limit: float  # bounds the sum of the coefficients' magnitudes, the constant left out
    half: bool = False
    edge: float = 1.0  # factor of the errors allowed beyond 0.6 of the window, where operands are rare


def fit(case: Fit) -> tuple[float, Real]:
    """Return (largest error, coefficients), the coefficients in the order constant, cosines, sines."""
    x = np.linspace(-case.outer, case.outer, 1601)
    angle = np.multiply.outer(x, np.asarray(case.harmonics)) * (2 * np.pi / 2.0**case.period_bits)
    basis = np.hstack([np.ones((len(x), 1)), np.cos(angle), np.sin(angle)])
    count = basis.shape[1]
    target = case.function(x) - (x / 2 if case.half else 0)
    ones = np.where(np.abs(x) > 0.6 * case.outer, case.edge, 1.0)[:, None]
    zero, identity = np.zeros((len(x), count)), np.eye(count)
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
    limits = np.concatenate([target, -target, np.zeros(2 * count), [case.limit]])
    goal = np.zeros(2 * count + 1)
    goal[count] = 1
    bounds = [(None, None)] * count + [(0, None)] * (count + 1)
    solution = linprog(goal, A_ub=rows, b_ub=limits, bounds=bounds, method="highs").x
    return float(np.abs(basis @ solution[:count] - target).max()), solution[:count]


def gelu(x: Real) -> Real:
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def silu(x: Real) -> Real:
    return x * expit(x)


def softplus(x: Real) -> Real:
    return np.logaddexp(0.0, x)


def mish(x: Real) -> Real:
    return np.asarray(x * np.tanh(softplus(x)))


FITS = {
    "GELU.short": Fit(gelu, 3.25, 5, (4, 11), 12.0, half=True, edge=1.6),
    "GELU.fine": Fit(gelu, 3.75, 4, (1, 3, 5, 7), 12.0, half=True),
    "SILU.short": Fit(silu, 7.5, 6, (1, 5, 11, 18), 24.0, half=True),
    "SILU.fine": Fit(silu, 8.5, 5, (1, 2, 3, 6, 9), 24.0, half=True),
    "SOFTPLUS.short": Fit(softplus, 7.5, 6, (1, 4, 9, 15), 24.0, half=True),
    "SOFTPLUS.fine": Fit(softplus, 8.5, 5, (1, 2, 3, 5, 8), 24.0, half=True),
    "MISH.short": Fit(mish, 8.0, 6, (1, 5, 9, 14, 20), 30.0, half=True),
    "MISH.fine": Fit(mish, 8.5, 5, (1, 3, 5, 7, 9, 11, 13), 30.0, half=True),
    "TANH.short": Fit(np.tanh, 3.5, 6, (4, 13, 24, 37), 6.0),
    "TANH.fine": Fit(np.tanh, 4.0, 4, (1, 2, 4, 6, 8, 11), 6.0),
    "SIGMOID.short": Fit(expit, 7.0, 6, (3, 6, 9, 16), 6.0),
    "SIGMOID.fine": Fit(expit, 7.0, 5, (1, 2, 4, 6, 9), 6.0),
}


def main() -> None:
    for name, case in FITS.items():
        error, values = fit(case)
        rounded = [0.0 if abs(value) < 1e-6 else round(float(value), 7) for value in values]
        count = len(case.harmonics)
        print(f"{name}: outer {case.outer}, period 2^{case.period_bits}, error {error:.6f}")
        print(f"    harmonics={case.harmonics},")
        print(f"    constant={rounded[0]},")
        print(f"    cosine={tuple(rounded[1 : count + 1])},")
        print(f"    sine={tuple(rounded[count + 1 :])},")


if __name__ == "__main__":
    main()
