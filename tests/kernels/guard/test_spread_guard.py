"""Rows within their limit are not refused, and larger ones are found as often as the kernel says."""

import numpy as np
import pytest

from ditto_kernels.guard.spread_guard import admits, guard_spreads
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.values.formats import Fxp

F = Fxp.parse


def refused(mpc, rows, fxp, limit, centred):
    value = mpc(guard_spreads, (rows, F(fxp)), out=WRAPS, limits=((limit, centred),)).value
    return bool((np.abs(value) >= 0.5).any())


@pytest.mark.parametrize("fxp", ["fxp32.11", "fxp64.18"])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape", [(130, 48), (2, 3, 33)])
def test_rows_within_their_limit(mpc, rng, fxp, centred, shape):
    rows = rng.normal(size=shape)
    rows[..., 5] *= 3
    rows *= 16 / np.sqrt(3 * (rows**2).mean(-1, keepdims=True))  # a third of the limit
    assert not refused(mpc, rows + 900 * centred, fxp, 256.0, centred)


@pytest.mark.parametrize("fxp", ["fxp32.11", "fxp64.18"])
@pytest.mark.parametrize("centred", [True, False])
def test_large_rows_are_found(mpc, rng, fxp, centred):
    for rows, deviation in ((8, 2), (130, 2), (1, 4)):
        assert refused(mpc, rng.normal(size=(rows, 48)) * 16 * deviation, fxp, 256.0, centred)
    one = rng.normal(size=(130, 48))
    one[77] *= 16 * 16
    assert refused(mpc, one, fxp, 256.0, centred)


def test_sums_in_a_ring_smaller_than_a_count_are_compared(mpc, rng):
    assert not refused(mpc, np.zeros((4, 6)), "fxp8.4", 0.01, True)
    assert refused(mpc, np.tile([-0.5, 0.5], (40, 3)), "fxp8.4", 0.01, True)


@pytest.mark.parametrize("size", [2.0**10, 2.0**12])
def test_sums_too_large_to_count_are_compared(mpc, rng, size):
    rows = rng.normal(size=(130, 48))
    rows *= size / np.sqrt(3 * (rows**2).mean(-1, keepdims=True))
    assert not refused(mpc, rows, "fxp32.11", size**2, False)
    assert refused(mpc, 3.5 * rows, "fxp32.11", size**2, False)


def test_narrow_rings_have_no_room_for_sums():
    assert admits(768, F("fxp32.11"), 256.0) and not admits(768, F("fxp16.8"), 256.0)
