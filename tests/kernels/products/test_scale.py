"""Products with public numbers have their digits at every size of the number."""

import numpy as np
import pytest

from ditto_kernels.products.scale import SCALE
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("fxp64.18", "fxp64.18"),
        ("fxp64.18", "fxp32.10"),
        ("fxp32.12", "fxp64.18"),
        ("fxp64.22", "fxp64.18"),
        ("fxp64.18", "fxp64.22"),
    ],
)
def test_factors_of_every_size(mpc, rng, source, target):
    x_fxp, out = Fxp.parse(source), Fxp.parse(target)
    sizes = np.repeat(2.0 ** np.arange(-50, 30), 6)
    factor = np.concatenate([rng.uniform(1, 2, sizes.size) * sizes, sizes, -3 * sizes, np.zeros(3)])
    reach = np.minimum(min(2.0**40 * x_fxp.ulp, x_fxp.limit / 2), out.limit / 4 / (np.abs(factor) + 1e-30))
    x = decode(encode(rng.uniform(-1, 1, factor.size) * reach, x_fxp), x_fxp)
    for dealer in range(3):
        outcome = mpc(SCALE.run, (x, x_fxp), factor, dealer=dealer, out=out)
        outcome.assert_cost(SCALE.cost(Spec(x.shape, x_fxp), Spec(factor.shape), out=out), dealer)
        apart = np.abs(outcome.value - x * factor)
        assert (apart <= 1.5 * out.ulp + 2.0**-20 * np.abs(x * factor)).all()


def test_integers_are_exact(mpc):
    x_fxp = Fxp(64, 18)
    x, factor = np.array([1.5, -2.25, 1e6, 3.0]), np.array([1e5, 3.0, 7.0, 2.0**30])
    assert np.array_equal(mpc(SCALE.run, (x, x_fxp), factor, out=x_fxp).value, x * factor)


def test_other_shapes_are_refused(mpc):
    with pytest.raises(ValueError, match=r"factors of shape \[3\] for values of shape \[2\]"):
        mpc(SCALE.run, (np.ones(2), Fxp(64, 18)), np.ones(3), out=Fxp(64, 18))


def test_numbers_that_are_none_are_refused(mpc):
    with pytest.raises(ValueError, match="NaN or infinity cannot be a factor"):
        mpc(SCALE.run, (np.ones(2), Fxp(64, 18)), np.array([1.0, np.inf]), out=Fxp(64, 18))
