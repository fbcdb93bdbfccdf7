"""Tests numbers that parties compute alike on all processors: right values, and the same bits everywhere."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ditto_kernels.values import portable

# Prints a digest of public numbers that two parties compute, each by itself.
PLANS = """
import hashlib, numpy
from ditto_kernels.inverse.by_octaves import fit
from ditto_kernels.inverse.by_thresholds import fit_table
from ditto_kernels.inverse.whole_range import fit_whole
from ditto_kernels.softmax.plan import plan_softmax
from ditto_kernels.softmax.whole_exponential import fit_exponential
from ditto_kernels.values.formats import Fxp
narrow, wide = Fxp(32, 12), Fxp(64, 18)
found = [fit(exponent, 0.5, 1.9, 4) for exponent in (-1.0, -0.5, 0.5)]
found += [fit_exponential(x, x) for x in (narrow, wide)]
found += [fit_whole(exponent, 30, 20) for exponent in (-1.0, -0.5, 0.5)]
found += [fit_table(power, wide, 0.01, 99.0, wide, 3) for power in ("reciprocal", "rsqrt")]
found += [plan_softmax((3, 30), narrow, narrow, dim=1)]
blas = numpy.linalg.lstsq(numpy.vander(numpy.linspace(1, 2, 64), 9), numpy.ones(64), rcond=None)[0]
print(hashlib.sha256(repr(found).encode()).hexdigest(), hashlib.sha256(blas.tobytes()).hexdigest())
"""


def test_parties_with_other_processors_compute_the_same_coefficients():
    kinds = ("Haswell", "Prescott", "Sandybridge")
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PLANS],
            env=os.environ | {"OPENBLAS_CORETYPE": kind, "NPY_DISABLE_CPU_FEATURES": disabled},
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind, disabled in zip(kinds, ("", "AVX2 FMA3", "AVX512F"), strict=True)
    ]
    found = [each.communicate()[0].split() for each in runs]
    assert all(each.returncode == 0 for each in runs)
    assert len({plans for plans, _ in found}) == 1
    if len({blas for _, blas in found}) == 1:
        pytest.skip("this BLAS computes alike for all kinds of processors")


def test_scalars_are_right_to_the_last_bit():
    for x in (1e-9, 0.3, 1.0, 2.0, 17.5, 300.0):
        assert portable.exp(-x) == pytest.approx(math.exp(-x), rel=2e-16)
        assert portable.log2(x) == pytest.approx(math.log2(x), rel=2e-16, abs=1e-300)
        assert portable.power(x, -0.5) == pytest.approx(x**-0.5, rel=2e-16)
    assert [portable.log2(2.0**place) for place in range(-70, 70)] == list(range(-70, 70))
    assert portable.exp(1e9) == math.inf
    for bad in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="has no logarithm"):
            portable.log2(bad)


def test_arrays_are_right():
    turns = np.linspace(-9, 9, 4001)
    cosine, sine = portable.waves(turns)
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * turns), atol=2e-14)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * turns), atol=2e-14)
    x = np.linspace(0, 2, 999)
    np.testing.assert_allclose(portable.exponentials(x), np.exp(x), rtol=1e-15)
    for exponent in (-1.0, -0.5, 0.5, 1.0):
        np.testing.assert_allclose(portable.powers(x + 0.1, exponent), (x + 0.1) ** exponent, rtol=1e-15)
    np.testing.assert_array_equal(portable.hypot(np.float64([3, 0]), np.float64([4, 2])), [5, 2])
    with pytest.raises(ValueError, match="none of"):
        portable.powers(x, 2.0)


def test_least_squares_finds_the_nearest_combination(rng):
    columns = [rng.normal(size=64) for _ in range(5)]
    target = rng.normal(size=64)
    found = portable.least_squares(columns, target)
    expected = np.linalg.lstsq(np.stack(columns, 1), target, rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(portable.combination(columns, found), np.stack(columns, 1) @ expected)


def test_columns_that_others_span_get_nothing(rng):
    columns = [rng.normal(size=64) for _ in range(3)]
    spanned = [*columns, columns[0] - 2 * columns[1]]
    found = portable.least_squares(spanned, columns[2] + columns[0])
    np.testing.assert_allclose(found, [1, 0, 1, 0], atol=1e-13)


def test_no_kernel_computes_with_blas_what_two_parties_compute():
    """The one exception is a table that the dealer alone computes."""
    folder = Path(portable.__file__).parents[1]
    found = {str(each.relative_to(folder)) for each in folder.rglob("*.py") if "linalg" in each.read_text()}
    assert found == {"norm/root_by_tables.py"}
