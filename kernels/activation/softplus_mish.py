"""Softplus and Mish are clipped series by default, precise series, or tables. Mish has polynomials, too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.activation.polynomial_tables import MISH_CIPHERDM
from ditto_kernels.activation.series_tables import MISH, SOFTPLUS
from ditto_kernels.activation.smooth_series_tables import MISH as SMOOTH_MISH
from ditto_kernels.activation.smooth_series_tables import SOFTPLUS as SMOOTH_SOFTPLUS
from ditto_kernels.activation.tanh_sigmoid_silu import Activation, kernel_of
from ditto_kernels.values.formats import Array


def _softplus(x: Array, **_: Any) -> NDArray[np.float64]:
    """Return log(1 + exp(x))."""
    return np.logaddexp(0.0, np.asarray(x, dtype=np.float64))


def _mish(x: Array, **_: Any) -> NDArray[np.float64]:
    """Return x tanh(softplus(x)). Less x/2 it is neither even nor odd, so that its series has all waves."""
    return np.asarray(x, dtype=np.float64) * np.tanh(_softplus(x))


SOFTPLUS_KERNEL = kernel_of("softplus", Activation(_softplus, SOFTPLUS, SMOOTH_SOFTPLUS, {}))
MISH_KERNEL = kernel_of("mish", Activation(_mish, MISH, SMOOTH_MISH, {"cipherdm": MISH_CIPHERDM}))
