"""GeLU: a clipped trigonometric series by default, and the polynomial forms of other work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from ditto_kernels.activation import clipped, clipped_cost, clipped_error, require
from ditto_kernels.cost import Cost
from ditto_kernels.curves import GELU
from ditto_kernels.kernel import Kernel, Spec
from ditto_kernels.party import Party, Protocol
from ditto_kernels.ring import Array, Fxp
from ditto_kernels.rss import Rss

FORMS = "fourier"


def gelu(
    party: Party, x: Rss, out: Fxp, approximate: str = "erf", approx: str = "fourier", inner: Fxp | None = None
) -> Protocol[Rss]:
    """GeLU of every element."""
    require(FORMS, approx)
    return (yield from clipped(party, x, GELU, out))


def gelu_cost(
    x: Spec, out: Fxp, approximate: str = "erf", approx: str = "fourier", inner: Fxp | None = None
) -> Cost:
    """Cost of `gelu`."""
    require(FORMS, approx)
    return clipped_cost(x, GELU, out)


def gelu_error(
    x: Spec, out: Fxp, approximate: str = "erf", approx: str = "fourier", inner: Fxp | None = None
) -> float:
    """Bound of the error against either exact form."""
    require(FORMS, approx)
    return clipped_error(x, GELU, out)


def reference(x: Array, approximate: str = "erf", **attributes: object) -> NDArray[np.float64]:
    """The exact function, or its usual form by tanh."""
    real = np.asarray(x, dtype=np.float64)
    if approximate == "tanh":
        return 0.5 * real * (1 + np.tanh(np.sqrt(2 / np.pi) * (real + 0.044715 * real**3)))
    return np.asarray(0.5 * real * (1 + erf(real / np.sqrt(2))))


GELU_KERNEL = Kernel(
    "gelu", gelu, reference, gelu_cost, gelu_error, "own construction; PUMA (2307.12533); Ditto (2405.05525)"
)
