"""Magnitude, sign, minimum and clamp: exact at zero and at the ends of their range."""

import numpy as np
import pytest

from ditto_kernels.maximum.absolute import ABS, SIGN
from ditto_kernels.maximum.clamp import CLAMP
from ditto_kernels.maximum.maximum import MINIMUM, REDUCE_MIN
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode

FORMATS = [Fxp.parse(text) for text in ("fxp8.2", "fxp16.8", "fxp32.12", "fxp64.18")]


def _values(fxp, spare=1, shape=(80,), seed=0):
    """Values up to the limit, less so many spare bits."""
    top = 1 << min(fxp.ring_bits - 1 - spare, 50)
    values = np.random.default_rng(seed).integers(1 - top, top, shape)
    values.flat[:5] = 0, 1, -1, top - 1, 1 - top
    return decode(values, fxp)


@pytest.mark.parametrize("fxp", FORMATS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_magnitude_and_sign(mpc, fxp, masked):
    x = _values(fxp, spare=0).reshape(8, 10)
    for dealer in range(1 if masked else 3):
        outcome = mpc(ABS.run, (x, fxp), out=fxp, dealer=dealer, masked=masked)
        assert np.array_equal(outcome.value, np.abs(x))
        outcome.assert_cost(ABS.cost(Spec(x.shape, fxp), out=fxp, masked=masked), dealer)
        outcome = mpc(SIGN.run, (x, fxp), out=Fxp(32, 12), dealer=dealer, masked=masked)
        assert np.array_equal(outcome.value, np.sign(x))
        outcome.assert_cost(SIGN.cost(Spec(x.shape, fxp), out=Fxp(32, 12), masked=masked), dealer)


@pytest.mark.parametrize("fxp", FORMATS, ids=str)
def test_minima(mpc, fxp):
    x, y = _values(fxp), _values(fxp, seed=1)
    assert np.array_equal(mpc(MINIMUM.run, (x, fxp), (y, fxp), out=fxp).value, np.minimum(x, y))
    assert np.array_equal(mpc(MINIMUM.run, x, (y, fxp), out=fxp).value, np.minimum(x, y))
    rows = x.reshape(8, 10)
    for dim in (0, 1):
        assert np.array_equal(mpc(REDUCE_MIN.run, (rows, fxp), out=fxp, dim=dim).value, rows.min(dim))


@pytest.mark.parametrize("fxp", FORMATS, ids=str)
def test_clamp_by_public_and_by_secret_bounds_in_any_order(mpc, fxp):
    x = _values(fxp)
    low, high = _values(fxp, seed=1), _values(fxp, seed=2)
    expected = np.minimum(np.maximum(x, low), high)
    for bounds in ((low, high), ((low, fxp), (high, fxp)), (low, (high, fxp))):
        assert np.array_equal(mpc(CLAMP.run, bounds[0], (x, fxp), bounds[1], out=fxp).value, expected)
    one, two = np.array(fxp.ulp), np.array(2.0)
    for low, high in ((one, two), (two, one), (np.array(-np.inf), two), (one, np.array(1e30))):
        outcome = mpc(CLAMP.run, low, (x, fxp), high, out=fxp)
        assert np.array_equal(outcome.value, np.minimum(np.maximum(x, low), high))
