"""Fit the series of kernels/activation/smooth_series_tables.py by least squares on Chebyshev nodes.

Run `python docs/fit_smooth_series.py` to print the coefficients and the largest errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A function to fit over [-outer, outer], less x/2 if `half`. The tails hold beyond `bound`.

    uneven: whether it takes sines beside the cosines of `half`.
    """

    function: Callable[[Any], Any]
    bound: float
    outer: float
    period_bits: int
    harmonics: tuple[int, ...]
    half: bool = False
    uneven: bool = False


def gelu(x: Real) -> Real:
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def gelu_by_tanh(x: Real) -> Real:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: Real) -> Real:
    return x * expit(x)


def softplus(x: Real) -> Real:
    return np.logaddexp(0.0, x)


def mish(x: Real) -> Real:
    return np.asarray(x * np.tanh(softplus(x)))


# Odd harmonics alone mirror the function at a quarter of the period, where it is flat.
_ODD = tuple(range(1, 40, 2))
CASES = {
    "gelu": Fit(gelu, 5.0, 5.25, 4, tuple(range(1, 11)), half=True),
    "gelu_by_tanh": Fit(gelu_by_tanh, 4.75, 5.0, 4, tuple(range(1, 12)), half=True),
    "silu": Fit(silu, 14.5, 15.0, 6, _ODD, half=True),
    "softplus": Fit(softplus, 12.5, 13.0, 6, _ODD, half=True),
    "mish": Fit(mish, 14.5, 15.0, 6, tuple(range(1, 56, 2)), half=True, uneven=True),
    "tanh": Fit(np.tanh, 6.25, 6.5, 5, _ODD),
    "sigmoid": Fit(expit, 12.5, 13.0, 6, _ODD),
}


def fit(case: Fit) -> tuple[float, float, Real]:
    """Return the largest errors within `outer` and of the tails, and constant and coefficients.

    The coefficients are those of cosines if x/2 is left out, and else those of sines. Those of further sines
    follow.
    """
    places = np.asarray(case.harmonics) * (2 * np.pi / 2.0**case.period_bits)
    wave = np.cos if case.half else np.sin
    constant = 0.0 if case.half else float(case.function(0.0))

    def columns(x: Real) -> Real:
        waves = [wave(np.outer(x, places))]
        if case.uneven:
            waves.append(np.sin(np.outer(x, places)))
        return np.hstack([np.ones((len(x), 1)), *waves]) if case.half else waves[0]

    def target(x: Real) -> Real:
        return np.asarray(case.function(x) - (x / 2 if case.half else constant))

    nodes = case.outer * 1.0001 * np.cos(np.pi * (np.arange(400) + 0.5) / (400 if case.uneven else 800))
    solution, *_ = np.linalg.lstsq(columns(nodes), target(nodes), rcond=1e-11)
    if not case.half:
        solution = np.concatenate([[constant], solution])
    rounded = np.array([float(f"{each:.10g}") for each in solution])
    fine = np.linspace(-case.outer, case.outer, 8001)
    found = columns(fine) @ rounded[-columns(fine[:1]).shape[1] :]
    error = float(np.abs(found - target(fine)).max())
    beyond = np.linspace(case.bound, case.outer, 401)
    below = float(np.abs(case.function(-beyond) - (0 if constant or case.half else -1)).max())
    return error, below, rounded


if __name__ == "__main__":
    for name, case in CASES.items():
        error, tail, coefficients = fit(case)
        print(name, f"error {error:.3g}, tails {tail:.3g}", sep="\n")
        print(", ".join(f"{each:.10g}" for each in coefficients))
