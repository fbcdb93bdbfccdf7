"""The tables of the series state their figures, and kernels refuse operands that they cannot take."""

import numpy as np
import pytest

from ditto_kernels.activation.gelu import reference as gelu
from ditto_kernels.activation.series import (
    dealt_bits,
    dealt_waves,
    index_bits,
    noise,
    public_bits,
    public_factors,
    scale_bits,
)
from ditto_kernels.activation.series_tables import GELU, MISH, SIGMOID, SILU, SOFTPLUS, TANH
from ditto_kernels.activation.softplus_mish import MISH_KERNEL, SOFTPLUS_KERNEL
from ditto_kernels.activation.tanh_sigmoid_silu import SIGMOID_KERNEL, SILU_KERNEL, TANH_KERNEL
from ditto_kernels.values.formats import Fxp

FUNCTIONS = {
    "gelu": (GELU, gelu),
    "silu": (SILU, SILU_KERNEL.reference),
    "softplus": (SOFTPLUS, SOFTPLUS_KERNEL.reference),
    "mish": (MISH, MISH_KERNEL.reference),
    "tanh": (TANH, TANH_KERNEL.reference),
    "sigmoid": (SIGMOID, SIGMOID_KERNEL.reference),
}
CURVES = [
    pytest.param(getattr(fits, kind), function, id=f"{name}-{kind}")
    for name, (fits, function) in FUNCTIONS.items()
    for kind in ("short", "fine")
]


@pytest.mark.parametrize(("curve", "function"), CURVES)
def test_a_curve_states_its_own_figures(curve, function):
    x = np.linspace(-40, 40, 400001)
    inside, outside = np.abs(x) < curve.outer, np.abs(x) >= curve.bound
    series, tails = curve.series(x), curve.tails(x)
    assert np.abs(series - function(x))[inside].max() <= curve.fit_error
    assert np.abs(tails - function(x))[outside].max() <= curve.tail_error
    assert series[inside].min() >= curve.minimum + 0.045
    assert series[inside].max() <= curve.maximum + curve.fit_error
    wave = series - (x / 2 if curve.half else 0)
    assert np.abs(np.diff(wave)[inside[1:]]).max() / (x[1] - x[0]) <= curve.slope


@pytest.mark.parametrize(("curve", "function"), CURVES)
@pytest.mark.parametrize("fraction", [8, 10, 12])
def test_rounded_tables_stay_within_the_stated_noise(curve, function, fraction, rng):
    middle, count = min(fraction, curve.narrow_bits), len(curve.harmonics)
    bits = index_bits(curve, fraction)
    size = 1 << bits
    factors = public_factors(curve, bits, middle).astype(np.int64)
    waves = dealt_waves(curve, bits, middle).astype(np.int64)
    c, r = rng.integers(0, size, (2, 50000))
    rounded = (factors[:, c] * waves[:, r]).sum(axis=0) * 2.0 ** -scale_bits(middle)
    angle = np.multiply.outer((c - r) % size, np.asarray(curve.harmonics)) * (2 * np.pi / size)
    exact = np.cos(angle) @ curve.cosine + np.sin(angle) @ curve.sine
    assert np.abs(rounded - exact).max() <= noise(curve, bits, middle)
    assert len(public_bits(curve, middle)) == len(dealt_bits(curve, middle)) == count


def test_a_small_ring_is_refused(mpc):
    with pytest.raises(ValueError, match="cast the operand to fxp16 first"):
        mpc(TANH_KERNEL.run, (np.ones(3), Fxp(8, 3)), out=Fxp(16, 9))


def test_the_dealer_sees_no_online_message(mpc, rng):
    outcome = mpc(SIGMOID_KERNEL.run, (rng.uniform(-6, 6, 50), Fxp(16, 9)), dealer=0, out=Fxp(32, 12))
    assert all(sent.to != 0 for _, sent in outcome.messages)
    assert all(sent.offline == (rank == 0) for rank, sent in outcome.messages)
