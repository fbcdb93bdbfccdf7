"""The series of odd functions over their whole windows."""

import numpy as np
import pytest

from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.trigonometry.odd_series import ODD
from ditto_kernels.trigonometry.odd_series_tables import ODD_SERIES
from ditto_kernels.values.formats import Fxp

FORMATS = [
    ("fxp32.12", "fxp32.12"),
    ("fxp64.18", "fxp64.18"),
    ("fxp64.40", "fxp64.24"),
    ("fxp16.11", "fxp32.12"),
    ("fxp32.20", "fxp16.10"),
]


@pytest.mark.parametrize("function", ODD_SERIES)
@pytest.mark.parametrize(("source", "target"), FORMATS)
def test_the_whole_window(mpc, source, target, function):
    fxp, out = Fxp.parse(source), Fxp.parse(target)
    window = ODD_SERIES[function].window
    x = np.rint(np.linspace(-window, window, 2001) / fxp.ulp) * fxp.ulp
    spec = Spec(x.shape, fxp)
    for dealer in range(3):
        outcome = mpc(ODD.run, (x, fxp), out=out, function=function, dealer=dealer)
        error = np.max(np.abs(outcome.value - ODD.reference(x, function=function)))
        assert error <= ODD.error(spec, out=out, function=function) < 2 * out.ulp + 2e-6
        outcome.assert_cost(ODD.cost(spec, out=out, function=function), dealer)


def test_unknown_functions_and_narrow_rings_are_refused(mpc):
    with pytest.raises(ValueError, match="choose atan"):
        ODD.error(Spec((2,), Fxp(32, 12)), out=Fxp(32, 12), function="sin")
    with pytest.raises(ValueError, match="no period of 16"):
        ODD.error(Spec((2,), Fxp(32, 30)), out=Fxp(32, 12), function="erf")
