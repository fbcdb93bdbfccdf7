"""Fit the sine series of kernels/trigonometry/odd_series_tables.py by least squares on Chebyshev nodes.

Run `python docs/fit_odd_series.py` to print the coefficients and the largest errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A function to fit over [-window, window]."""

    function: Callable[[Any], Any]
    window: float
    period: float
    harmonics: int


CASES = {
    "atan": Fit(np.arctan, 1.0, 4.0, 8),
    "asin": Fit(np.arcsin, 0.5, 4.0, 6),
    "erf": Fit(erf, 4.0, 16.0, 12),
}


def fit(case: Fit) -> tuple[float, Real]:
    """Return the largest error within the window, and the coefficient of each harmonic."""
    places = np.arange(1, case.harmonics + 1) * (2 * np.pi / case.period)
    nodes = case.window * 1.0001 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    solution, *_ = np.linalg.lstsq(np.sin(np.outer(nodes, places)), case.function(nodes), rcond=1e-11)
    fine = np.linspace(-case.window, case.window, 4001)
    rounded = np.array([float(f"{each:.13g}") for each in solution])
    return float(np.abs(np.sin(np.outer(fine, places)) @ rounded - case.function(fine)).max()), rounded


if __name__ == "__main__":
    for name, case in CASES.items():
        error, coefficients = fit(case)
        print(name, f"error {error:.2g}", ", ".join(f"{each:.13g}" for each in coefficients), sep="\n")
