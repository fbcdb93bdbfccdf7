"""Comparisons: exact at the ends of their range, for every direction, dealer and kind of operand."""

import numpy as np
import pytest

from ditto_kernels.maximum.compare import COMPARE, DIRECTIONS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode

FORMATS = [Fxp.parse(text) for text in ("fxp8.2", "fxp16.8", "fxp32.12", "fxp64.0")]
BOOLEAN = Fxp(64, 0)


def _pairs(fxp):
    """Pairs of ring elements whose differences are small, zero, and at the ends of half the ring."""
    top = 1 << min(fxp.ring_bits - 2, 50)  # float64 holds these exactly
    ends = [0, 1, -1, 2, top - 1, top - 2, 1 - top, -top]
    drawn = np.random.default_rng(0).integers(-top, top, (2, 70))
    x, y = (each.ravel() for each in np.meshgrid(ends, ends))
    return decode(np.concatenate([x, drawn[0], drawn[0]]), fxp), decode(
        np.concatenate([y, drawn[1], drawn[0]]), fxp
    )


@pytest.mark.parametrize("fxp", FORMATS, ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_is_exact(mpc, fxp, direction):
    x, y = _pairs(fxp)
    expected = DIRECTIONS[direction](x, y)
    for dealer in range(3):
        outcome = mpc(COMPARE.run, (x, fxp), (y, fxp), out=BOOLEAN, direction=direction, dealer=dealer)
        assert np.array_equal(outcome.value, expected)
        specs = Spec(x.shape, fxp), Spec(y.shape, fxp)
        outcome.assert_cost(COMPARE.cost(*specs, out=BOOLEAN, direction=direction), dealer)
    for left, right in (((x, fxp), y), (x, (y, fxp))):
        outcome = mpc(COMPARE.run, left, right, out=Fxp(16, 3), direction=direction)
        assert np.array_equal(outcome.value, expected)
    outcome = mpc(COMPARE.run, (x, fxp), (y, fxp), out=BOOLEAN, direction=direction, masked=True)
    assert np.array_equal(outcome.value, expected)


@pytest.mark.parametrize("direction", ["EQ", "NE"])
def test_equality_needs_no_range(mpc, direction):
    fxp = Fxp(8, 0)
    x, y = (each.ravel() for each in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    outcome = mpc(COMPARE.run, (x, fxp), (y, fxp), out=BOOLEAN, direction=direction)
    assert np.array_equal(outcome.value, DIRECTIONS[direction](x, y))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_public_values_beyond_the_format_are_larger_than_all_values(mpc, direction):
    fxp = Fxp(16, 8)
    x = np.array([0.0, 60.0, -60.0, 1.5])
    for value in (np.inf, -np.inf, 1e9, -1e9):
        outcome = mpc(COMPARE.run, (x, fxp), np.float64(value), out=BOOLEAN, direction=direction)
        assert np.array_equal(outcome.value, DIRECTIONS[direction](x, value))


def test_shapes_broadcast_and_scalars_are_arrays(mpc):
    fxp = Fxp(32, 12)
    x, y = np.linspace(-2, 2, 5)[:, None], np.linspace(-1, 3, 4)
    assert np.array_equal(mpc(COMPARE.run, (x, fxp), (y, fxp), out=BOOLEAN).value, x < y)
    scalar = np.array(0.5)
    assert mpc(COMPARE.run, (scalar, fxp), (scalar, fxp), out=BOOLEAN, direction="GE").value.shape == ()


def test_operands_of_two_formats_and_unknown_directions_are_refused(mpc):
    x = np.ones(3)
    with pytest.raises(ValueError, match="one format"):
        mpc(COMPARE.run, (x, Fxp(16, 8)), (x, Fxp(32, 12)), out=BOOLEAN)
    with pytest.raises(ValueError, match="no comparison 'BETWEEN'"):
        mpc(COMPARE.run, (x, Fxp(16, 8)), x, out=BOOLEAN, direction="BETWEEN")
