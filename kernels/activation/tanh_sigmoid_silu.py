"""Tanh, sigmoid and SiLU are clipped series by default, or precise series, tables, or polynomials.

`Activation` is the frame that they share with GeLU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.activation.clipped import clipped, clipped_error, clipped_variant
from ditto_kernels.activation.curve import Curve, Fits
from ditto_kernels.activation.polynomial import piecewise, piecewise_error
from ditto_kernels.activation.polynomial_tables import SIGMOID_ODD, SILU_CIPHERDM, SILU_EVEN, TANH_ODD, Pieces
from ditto_kernels.activation.series_tables import SIGMOID, SILU, TANH
from ditto_kernels.activation.smooth_series import smooth, smooth_error
from ditto_kernels.activation.smooth_series_tables import SIGMOID as SMOOTH_SIGMOID
from ditto_kernels.activation.smooth_series_tables import SILU as SMOOTH_SILU
from ditto_kernels.activation.smooth_series_tables import TANH as SMOOTH_TANH
from ditto_kernels.activation.smooth_series_tables import Smooth
from ditto_kernels.activation.value_table import Function
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

PRECISE = "precise"  # the form whose error is near the step of ring 64


@dataclass(frozen=True, eq=False)
class Activation:
    """A saturating function as `fourier` (the default), `precise`, `table` or polynomials."""

    function: Function
    fits: Fits
    smooth: Smooth
    polynomials: dict[str, Pieces]

    @property
    def forms(self) -> tuple[str, ...]:
        return ("fourier", PRECISE, "table", *self.polynomials)

    def _window(self, x: Fxp, approx: str) -> tuple[Curve, Function | None]:
        require(self.forms, approx)
        if approx == "table":
            return self.fits.short.checked(x), self.function
        return self.fits.at(x), None

    def run(self, party: Party, x: Rss, out: Fxp, approx: str = "fourier") -> Protocol[Rss]:
        """Compute the function of every element, by `clipped`, `smooth` or `piecewise`."""
        if approx == PRECISE:
            return (yield from smooth(party, x, self.smooth, out))
        if approx in self.polynomials:
            return (yield from piecewise(party, x, out, self.polynomials[approx]))
        curve, function = self._window(x.fxp, approx)
        return (yield from clipped(party, x, curve, out, function))

    def variant(self, x: Spec, out: Fxp, worth: int, approx: str = "fourier") -> str:
        """Name the ways in which few elements are compared with the window's bounds, and chosen."""
        assert x.fxp is not None
        few = approx not in (PRECISE, *self.polynomials)
        return "" if not few else clipped_variant(x, self._window(x.fxp, approx)[0], out, worth)

    def error(self, x: Spec, out: Fxp, approx: str = "fourier") -> float:
        """Bound the error of `run` against the exact function."""
        assert x.fxp is not None
        if approx == PRECISE:
            return smooth_error(x.fxp, self.smooth, out)
        if approx in self.polynomials:
            return piecewise_error(x.fxp, out, self.polynomials[approx])
        curve, function = self._window(x.fxp, approx)
        return clipped_error(x, curve, out, function)


def require(known: Sequence[str], approx: str) -> None:
    """Raise ValueError for an approximation that the kernel does not have."""
    if approx not in known:
        raise ValueError(f"no approximation '{approx}' here: choose {' or '.join(known)}")


def _tanh(x: Array, **_: Any) -> NDArray[np.float64]:
    return np.tanh(np.asarray(x, dtype=np.float64))


def _sigmoid(x: Array, **_: Any) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(x, dtype=np.float64))


def _silu(x: Array, **_: Any) -> NDArray[np.float64]:
    return np.asarray(x, dtype=np.float64) * _sigmoid(x)


def kernel_of(name: str, activation: Activation) -> Kernel:
    """Return the kernel of an activation."""
    return Kernel(
        name,
        activation.run,
        activation.function,
        activation.error,
        "own construction: dealt trigonometric series with clipping",
        elementwise=True,
        variant=activation.variant,
    )


TANH_KERNEL = kernel_of("tanh", Activation(_tanh, TANH, SMOOTH_TANH, {"odd": TANH_ODD}))
SIGMOID_KERNEL = kernel_of("sigmoid", Activation(_sigmoid, SIGMOID, SMOOTH_SIGMOID, {"odd": SIGMOID_ODD}))
SILU_KERNEL = kernel_of(
    "silu", Activation(_silu, SILU, SMOOTH_SILU, {"even": SILU_EVEN, "cipherdm": SILU_CIPHERDM})
)
