"""Inverses and quotients have their relative error over the declared range, at exact costs."""

import numpy as np
import pytest

from ditto_kernels.inverse.by_thresholds import fit_table
from ditto_kernels.inverse.reciprocal_rsqrt_divide import DIVIDE, RECIPROCAL, RSQRT
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp

CASES = [
    (RECIPROCAL, "fxp32.12", "fxp32.18", 0.9, 128.0),
    (RECIPROCAL, "fxp32.12", "fxp64.24", 0.5, 1024.0),
    (RECIPROCAL, "fxp64.18", "fxp64.24", 0.5, 1024.0),
    (RECIPROCAL, "fxp32.20", "fxp32.20", 0.9, 1.0),
    (RSQRT, "fxp64.24", "fxp64.24", 2.0**-9, 2.0**8),
    (RSQRT, "fxp64.18", "fxp32.12", 2.0**-9, 2.0**8),
    (RSQRT, "fxp32.16", "fxp32.16", 2.0**-4, 2.0**8),
]


@pytest.mark.parametrize("count", [7, 500])  # The few are computed by one series per octave.
@pytest.mark.parametrize(("kernel", "source", "target", "lo", "hi"), CASES)
def test_relative_error(mpc, kernel, source, target, lo, hi, count):
    fxp, out = Fxp.parse(source), Fxp.parse(target)
    x = np.exp(np.random.default_rng(0).uniform(np.log(lo), np.log(hi), count))
    x = np.clip(np.rint(np.concatenate([x, [lo, hi]]) / fxp.ulp) * fxp.ulp, lo, hi)
    spec, grid = Spec(x.shape, fxp), np.rint(x / fxp.ulp) * fxp.ulp
    exact = kernel.reference(grid)
    for dealer in range(3):
        outcome = mpc(kernel.run, (x, fxp), out=out, lo=lo, hi=hi, dealer=dealer)
        error = np.abs(outcome.value - exact)
        assert np.max(np.maximum(error - 3 * out.ulp, 0) / exact) < 1e-4
        assert np.max(error) <= kernel.error(spec, out=out, lo=lo, hi=hi)
        outcome.assert_cost(kernel.cost(spec, out=out, lo=lo, hi=hi), dealer)


@pytest.mark.parametrize("kernel", [RECIPROCAL, RSQRT])
def test_few_elements_are_right_everywhere_in_the_range(mpc, kernel):
    """The range includes the neighbourhoods of thresholds, which may be read as either piece."""
    fxp, out, lo, hi = Fxp(32, 14), Fxp(32, 16), 0.33, 40.0
    how = fit_table("reciprocal" if kernel is RECIPROCAL else "rsqrt", fxp, lo, hi, out).few
    edges = np.asarray(how.edges)[:, None] + np.array([-(1 << how.low), -100, -1, 0, 1, 100])
    x = np.concatenate([edges.reshape(-1) * fxp.ulp, np.geomspace(lo + fxp.ulp, hi, 4)])
    x = np.rint(x / fxp.ulp) * fxp.ulp
    for part in np.array_split(x, 8):
        outcome = mpc(kernel.run, (part, fxp), out=out, lo=lo, hi=hi)
        exact = kernel.reference(part)
        assert np.max(np.abs(outcome.value - exact) / exact) <= how.error + 3 * out.ulp / exact.min()
        assert outcome.traffic[1].rounds == 3


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (2.0, 1.0), (0.5, 1e9)])
def test_ranges_that_do_not_fit_are_errors(bounds):
    with pytest.raises(ValueError):
        RECIPROCAL.cost(Spec((3,), Fxp(32, 12)), out=Fxp(32, 12), lo=bounds[0], hi=bounds[1])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("source", "target"), [("fxp32.12", "fxp32.12"), ("fxp64.18", "fxp64.18"), ("fxp16.6", "fxp32.12")]
)
def test_quotients(mpc, source, target, signed):
    fxp, out = Fxp.parse(source), Fxp.parse(target)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-90, 90, (7, 9)), np.exp(rng.uniform(np.log(0.6), np.log(99.0), (7, 1)))
    y = y * np.where(rng.random(y.shape) < 0.5, -1, 1) if signed else y
    x, y = np.rint(x / fxp.ulp) * fxp.ulp, np.rint(y / fxp.ulp) * fxp.ulp
    attributes = {"lo": 0.5, "hi": 100.0, "signed": signed}
    for dealer in range(3):
        outcome = mpc(DIVIDE.run, (x, fxp), (y, fxp), out=out, dealer=dealer, **attributes)
        assert np.all(np.abs(outcome.value - x / y) <= 2e-4 * np.abs(x / y) + 3 * out.ulp)
        outcome.assert_cost(
            DIVIDE.cost(Spec(x.shape, fxp), Spec(y.shape, fxp), out=out, **attributes), dealer
        )


@pytest.mark.parametrize(
    ("power", "fxp", "lo", "hi", "out", "thresholds"),
    [
        ("reciprocal", "fxp32.14", 0.33, 131.0, "fxp32.16", 8),
        ("reciprocal", "fxp64.28", 5e-4, 131.0, "fxp64.18", 17),
        ("rsqrt", "fxp64.28", 2.0**-11, 2.0**8, "fxp64.18", 9),
        ("rsqrt", "fxp32.16", 0.0625, 256.0, "fxp64.18", 5),
    ],
)
def test_few_thresholds_serve_a_wide_range(power, fxp, lo, hi, out, thresholds):
    how = fit_table(power, Fxp.parse(fxp), lo, hi, Fxp.parse(out))
    assert len(how.edges) == thresholds and how.error < 1.2e-4
