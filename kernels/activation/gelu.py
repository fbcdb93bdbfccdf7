"""GeLU is a clipped trigonometric series by default, or a precise one, a table, or polynomials."""

from __future__ import annotations

import numpy as np
from jax.experimental import enable_x64
from jax.scipy.special import erf
from numpy.typing import NDArray

from ditto_kernels.activation.polynomial_tables import GELU_EVEN, GELU_PUMA
from ditto_kernels.activation.quad import quadratic
from ditto_kernels.activation.series_tables import GELU
from ditto_kernels.activation.smooth_series_tables import GELU as SMOOTH_GELU
from ditto_kernels.activation.smooth_series_tables import GELU_BY_TANH
from ditto_kernels.activation.tanh_sigmoid_silu import PRECISE, Activation, require
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


def reference(x: Array, approximate: str = "erf", approx: str = "fourier") -> NDArray[np.float64]:
    """Return the exact function, its usual form by tanh, or the quadratic if `approx` asks for it."""
    require(FORMS, approx)
    require(REFERENCES, approximate)
    real = np.asarray(x, dtype=np.float64)
    if approx == "quad":
        return 0.125 * real**2 + 0.25 * real + 0.5
    if approximate == "tanh":
        return 0.5 * real * (1 + np.tanh(np.sqrt(2 / np.pi) * (real + 0.044715 * real**3)))
    with enable_x64():
        return 0.5 * real * (1 + np.asarray(erf(real / np.sqrt(2))))


_POLYNOMIALS = {"even": GELU_EVEN, "puma": GELU_PUMA}
# The two references differ by less than 0.0005. Only the precise form tells them apart.
_EXACT = {
    "erf": Activation(reference, GELU, SMOOTH_GELU, _POLYNOMIALS),
    "tanh": Activation(reference, GELU, GELU_BY_TANH, _POLYNOMIALS),
}
FORMS = (*_EXACT["erf"].forms, "quad")
REFERENCES = tuple(_EXACT)


def gelu(party: Party, x: Rss, out: Fxp, approximate: str = "erf", approx: str = "fourier") -> Protocol[Rss]:
    """Compute GeLU of every element, by the form in FORMS that `approx` names.

    "fourier" and "table" run `clipped.clipped`, "precise" runs `smooth_series.smooth`, "even" and "puma" run
    `polynomial.piecewise`, and "quad" runs `quad.quadratic`, which is another function and needs a model that
    was trained for it. Each of these states its range, error, rounds and security.

    `approximate` ("erf" or "tanh") names the reference. The protocols are the same but for "precise", because
    the two references differ by less than 0.0005. The cheapest operands are fxp16.9 and fxp16.10. Raises
    ValueError for an `approx` that is not in FORMS, or an `approximate` that names no
    reference.
    """
    require(FORMS, approx)
    require(REFERENCES, approximate)
    if approx == "quad":
        return (yield from quadratic(party, x, out))
    return (yield from _EXACT[approximate].run(party, x, out, approx))


def gelu_error(x: Spec, out: Fxp, approximate: str = "erf", approx: str = "fourier") -> float:
    """Bound the error against the reference, for operands in range."""
    require(FORMS, approx)
    if approx == "quad":
        return 1.5 * out.ulp
    other = 0.0005 if approximate == "tanh" and approx != PRECISE else 0.0
    return _EXACT[approximate].error(x, out, approx) + other


def _variant(x: Spec, out: Fxp, worth: int, approximate: str = "erf", approx: str = "fourier") -> str:
    return "" if approx == "quad" else _EXACT[approximate].variant(x, out, worth, approx)


GELU_KERNEL = Kernel(
    "gelu",
    gelu,
    reference,
    gelu_error,
    "own construction; PUMA (2307.12533); Ditto (2405.05525)",
    elementwise=True,
    variant=_variant,
)
