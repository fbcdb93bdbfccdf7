"""The coefficients of the sine series of odd functions were fitted by docs/fit_odd_series.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OddSeries:
    """f(x) = sum b_j sin(2 pi j x / 2^period_bits) for |x| <= window, and the error of the fit there."""

    window: float
    period_bits: int
    coefficients: tuple[float, ...]
    fit_error: float


ODD_SERIES: Mapping[str, OddSeries] = {
    "atan": OddSeries(
        window=1.0,
        period_bits=2,
        coefficients=(
            *(0.8855204387722, -0.2364210290663, 0.115076426205, -0.04490612359226),
            *(0.01578659612926, -0.004291382234682, 0.0008325910178579, -8.47083876834e-05),
        ),
        fit_error=1.6e-7,
    ),
    "asin": OddSeries(
        window=0.5,
        period_bits=2,
        coefficients=(
            *(1.745069461626, -1.019496447796, 0.4618179102126),
            *(-0.1451959541002, 0.02827495512426, -0.002583601748421),
        ),
        fit_error=8.5e-9,
    ),
    "erf": OddSeries(
        window=4.0,
        period_bits=4,
        coefficients=(
            *(-8.263540617394, 16.23977252866, -18.4395383335, 17.20624148688),
            *(-13.07573650271, 8.53048112532, -4.641510241029, 2.134096735191),
            *(-0.7884048821998, 0.2304340176054, -0.04663292849651, 0.005740304483262),
        ),
        fit_error=8.1e-7,
    ),
}
