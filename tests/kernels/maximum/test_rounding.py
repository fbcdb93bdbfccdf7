"""Rounding: exact for every fraction, at ties, at whole numbers and at the ends of the range."""

import numpy as np
import pytest

from ditto_kernels.maximum.rounding import MODES, ROUND
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("out", [Fxp(8, 0), Fxp(16, 1), Fxp(16, 8), Fxp(32, 0), Fxp(64, 0)], ids=str)
def test_every_value_of_small_formats(mpc, mode, out):
    for bits in (1, 2, 5, 6):
        fxp = Fxp(8, bits)
        top = max(1, (1 << 6) - (1 << bits))
        x = decode(np.arange(-top, top).astype(np.int8), fxp)
        expected = ROUND.reference(x, mode=mode)
        inside = np.abs(expected) < out.limit
        for dealer in range(3):
            outcome = mpc(ROUND.run, (x, fxp), out=out, mode=mode, dealer=dealer)
            assert np.array_equal(outcome.value[inside], expected[inside])
            outcome.assert_cost(ROUND.cost(Spec(x.shape, fxp), out=out, mode=mode), dealer)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fxp", [Fxp(16, 8), Fxp(32, 12), Fxp(64, 18)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_ties_whole_numbers_and_ends(mpc, mode, fxp, masked):
    most = fxp.limit / 2 - 2 if fxp.ring_bits < 64 else 2.0**30
    x = np.concatenate([np.arange(-6, 6, 0.25), [most, -most, most - fxp.ulp, fxp.ulp, -fxp.ulp]])
    x = np.concatenate([x, np.random.default_rng(0).uniform(-most, most, 60)]).reshape(-1, 1)
    grid = np.round(x / fxp.ulp) * fxp.ulp
    for out in (Fxp(64, 0), fxp, Fxp(fxp.ring_bits, 0)):
        outcome = mpc(ROUND.run, (x, fxp), out=out, mode=mode, masked=masked)
        assert np.array_equal(outcome.value, ROUND.reference(grid, mode=mode))


def test_whole_numbers_are_left_alone_and_unknown_modes_refused(mpc):
    x = np.array([3.0, -4.0])
    assert np.array_equal(mpc(ROUND.run, (x, Fxp(32, 0)), out=Fxp(32, 3)).value, x)
    with pytest.raises(ValueError, match="no rounding 'up'"):
        mpc(ROUND.run, (x, Fxp(32, 2)), out=Fxp(32, 3), mode="up")
