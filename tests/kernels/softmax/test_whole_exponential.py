"""The exponential of any value: relative error on every interval, zero far below, the largest value above."""

import numpy as np
import pytest

from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.softmax.exponential import EXPONENTIAL
from ditto_kernels.softmax.whole_exponential import fit_exponential
from ditto_kernels.values.formats import Fxp

FORMATS = [
    ("fxp32.11", "fxp32.11"),
    ("fxp64.18", "fxp64.18"),
    ("fxp16.8", "fxp32.14"),
    ("fxp64.22", "fxp32.11"),
    ("fxp32.8", "fxp16.6"),
    ("fxp8.2", "fxp32.11"),
    ("fxp32.20", "fxp32.20"),
]


@pytest.mark.parametrize(("source", "target"), FORMATS)
def test_exponentials_of_any_value(mpc, source, target):
    fxp, out = Fxp.parse(source), Fxp.parse(target)
    how = fit_exponential(fxp, out)
    limit = fxp.limit / 2 - fxp.ulp
    edges = np.asarray(how.edges) * fxp.ulp
    x = np.concatenate([np.linspace(-30, 30, 2000), edges, edges - fxp.ulp, [-limit, limit]])
    x = np.rint(np.clip(x, -limit, limit) / fxp.ulp) * fxp.ulp
    exact = np.minimum(np.exp(np.clip(x, -50, 50)), how.largest)
    for dealer in range(3):
        outcome = mpc(EXPONENTIAL.run, (x, fxp), out=out, approx="whole", dealer=dealer)
        assert np.all(np.abs(outcome.value - exact) <= 2e-4 * exact + 3 * out.ulp)
        outcome.assert_cost(EXPONENTIAL.cost(Spec(x.shape, fxp), out=out, approx="whole"), dealer)
        assert np.all(np.abs(outcome.value[x < edges[0]]) <= 2 * out.ulp)
        assert np.all(np.abs(outcome.value[x >= edges[-1]] - how.largest) <= 2 * out.ulp)


def test_the_largest_value_is_half_of_what_the_format_holds():
    assert fit_exponential(Fxp(32, 11), Fxp(32, 11)).largest == 2.0**19 - 2.0**-11
    assert fit_exponential(Fxp(64, 18), Fxp(64, 18)).largest == 2.0**24 - 2.0**-18


def test_too_many_fraction_bits_are_an_error():
    with pytest.raises(ValueError, match="too many fraction bits"):
        fit_exponential(Fxp(64, 18), Fxp(64, 60))
