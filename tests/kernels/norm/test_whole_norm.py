"""Normalisation of rows of any size: every octave of their lengths, exact costs, rows of zeros."""

import numpy as np
import pytest

from ditto_kernels.norm.layer_norm import LAYER_NORM
from ditto_kernels.norm.rms_norm import RMS_NORM
from ditto_kernels.norm.whole_norm import fit_norm, serves
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp

FORMATS = [
    ("fxp64.20", "fxp64.11", "fxp32.11"),
    ("fxp32.11", None, "fxp32.11"),
    ("fxp64.18", "fxp64.18", "fxp64.18"),
]


def rows_of_every_octave(length, fxp, largest, centred, rng):
    """Rows on the grid of `fxp`, four an octave of deviation from 64 ulp on, some far from 0."""
    least, most = 64 * fxp.ulp, min(0.9 * largest**0.5, fxp.limit / 12)
    deviations = np.geomspace(least, most, 4 * int(np.log2(most / least)))[:, None]
    drawn = rng.standard_normal((len(deviations), length))
    drawn -= drawn.mean(axis=1, keepdims=True)
    rows = drawn / drawn.std(axis=1, keepdims=True) * deviations
    if centred:
        rows += np.where(rng.random(deviations.shape) < 0.5, 0, np.minimum(100 * deviations, fxp.limit / 8))
    limit = fxp.limit / 2 - fxp.ulp
    return np.rint(np.clip(rows, -limit, limit) / fxp.ulp) * fxp.ulp


@pytest.mark.parametrize("kernel", [LAYER_NORM, RMS_NORM], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("length", [8, 96, 768])
@pytest.mark.parametrize(("source", "weights", "target"), FORMATS)
def test_rows_of_every_size(mpc, kernel, length, source, weights, target):
    fxp, out, rng = Fxp.parse(source), Fxp.parse(target), np.random.default_rng(length)
    gamma_fxp = Fxp.parse(weights) if weights else None
    centred = kernel is LAYER_NORM
    how = fit_norm(length, fxp, gamma_fxp, out, 1e-12, centred)
    x = rows_of_every_octave(length, fxp, how.largest, centred, rng)
    vectors = [np.rint(rng.uniform(0.5, 2, length) * 1024) / 1024]
    if centred:
        vectors.append(np.rint(rng.uniform(-1, 1, length) * 1024) / 1024)
    shared = [(each, gamma_fxp) if gamma_fxp else each for each in vectors]
    outcome = mpc(kernel.run, (x, fxp), *shared, out=out, approx="whole", eps=1e-12)
    exact = kernel.reference(x, *vectors, eps=1e-12)
    error = np.abs(outcome.value - exact)
    assert np.all(error <= 3e-4 * np.abs(exact) + 2 * out.ulp + 2e-4)
    specs = Spec(x.shape, fxp), *(Spec((length,), gamma_fxp) for _ in vectors)
    outcome.assert_cost(kernel.cost(*specs, out=out, approx="whole", eps=1e-12), 2)


def test_a_row_of_equal_elements_is_beta(mpc):
    x, fxp = np.full((2, 8), 37.25), Fxp(32, 11)
    outcome = mpc(LAYER_NORM.run, (x, fxp), np.ones(8), np.full(8, 0.5), out=fxp, approx="whole")
    assert np.all(np.abs(outcome.value - 0.5) <= 2 * fxp.ulp)


@pytest.mark.parametrize("kernel", [LAYER_NORM, RMS_NORM], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("length", [8, 100, 768])
def test_rounding_noise_around_a_constant_is_zero(mpc, kernel, length):
    fxp, out, rng = Fxp(64, 20), Fxp(64, 18), np.random.default_rng(length)
    centre = 3.0 if kernel is LAYER_NORM else 0.0
    x = np.repeat([[centre], [0.0]], length, axis=1) + rng.integers(-2, 3, (2, length)) * fxp.ulp
    vectors = [np.ones(length), np.full(length, 0.25)][: 2 if kernel is LAYER_NORM else 1]
    outcome = mpc(kernel.run, (x, fxp), *vectors, out=out, approx="whole", eps=1e-12)
    assert np.max(np.abs(outcome.value - (0.25 if kernel is LAYER_NORM else 0))) <= 2.0**-14


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 10.0])
def test_eps_counts_where_rows_are_small(mpc, eps):
    fxp = Fxp(64, 20)
    x = np.rint(np.random.default_rng(2).standard_normal((6, 32)) * 0.003 / fxp.ulp) * fxp.ulp
    outcome = mpc(RMS_NORM.run, (x, fxp), np.ones(32), out=Fxp(32, 16), approx="whole", eps=eps)
    assert np.max(np.abs(outcome.value - RMS_NORM.reference(x, 1.0, eps=eps))) < 2e-4


def test_long_rows_are_errors():
    assert serves(8192, centred=True) and not serves(1 << 14, centred=True)
    with pytest.raises(ValueError, match="too many"):
        fit_norm(1 << 14, Fxp(32, 11), None, Fxp(32, 11), 1e-12, True)
