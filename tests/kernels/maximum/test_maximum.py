"""Maxima are exact at the ends of their range, for any length and public masks, at exact costs."""

import numpy as np
import pytest

from ditto_kernels.maximum.maximum import MAXIMUM, REDUCE_MAX
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode

FORMATS = [Fxp.parse(text) for text in ("fxp8.2", "fxp16.8", "fxp32.12", "fxp64.18")]


def _values(shape, fxp, seed=0):
    bound = 1 << (fxp.ring_bits - 2)
    integers = np.random.default_rng(seed).integers(-bound, bound, shape)
    integers.flat[0], integers.flat[-1] = bound - 1, -bound
    return decode(integers >> max(0, fxp.ring_bits - 50) << max(0, fxp.ring_bits - 50), fxp)


@pytest.mark.parametrize("fxp", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(1, 7), (5, 13), (3, 1), (4, 6, 2), (2, 3, 9), (3, 67)], ids=str)
def test_reduce_max_is_exact_for_every_length(mpc, fxp, shape):
    x = _values(shape, fxp)
    for dealer in range(3):
        outcome = mpc(REDUCE_MAX.run, (x, fxp), out=fxp, dim=1, dealer=dealer)
        assert np.array_equal(outcome.value, x.max(axis=1))
        outcome.assert_cost(REDUCE_MAX.cost(Spec(shape, fxp), out=fxp, dim=1), dealer)


@pytest.mark.parametrize(("ring", "rounds"), [(8, 6), (16, 8), (32, 10)])
def test_few_entries_take_few_rounds(mpc, ring, rounds):
    """Few entries take two levels of groups, of six and of seven.

    Comparing few in ring 8 takes no round, and the last round reshares.
    """
    fxp, shape = Fxp(ring, 2), (12, 37)
    x = _values(shape, fxp, 5)
    outcome = mpc(REDUCE_MAX.run, (x, fxp), out=fxp)
    assert np.array_equal(outcome.value, x.max(axis=1))
    assert outcome.traffic[0].rounds == rounds + 1
    outcome.assert_cost(REDUCE_MAX.cost(Spec(shape, fxp), out=fxp), 2)


def test_the_first_of_equal_entries_is_as_good_as_any(mpc):
    fxp = Fxp(8, 0)
    x = np.array(np.meshgrid(*[[-2, 0, 1]] * 4)).reshape(4, -1).T
    assert np.array_equal(mpc(REDUCE_MAX.run, (x, fxp), out=fxp).value, x.max(axis=1))


def test_masked_positions_never_win(mpc):
    fxp = Fxp(16, 8)
    x = _values((6, 11), fxp, 1)
    mask = np.random.default_rng(2).random((6, 11)) < 0.6
    mask[:, 3] = True
    outcome = mpc(REDUCE_MAX.run, (x, fxp), out=fxp, mask=mask)
    assert np.array_equal(outcome.value, REDUCE_MAX.reference(x, mask=mask))


@pytest.mark.parametrize("fxp", FORMATS, ids=str)
def test_maximum_of_two_and_with_a_constant(mpc, fxp):
    x, y = _values((9,), fxp, 3), _values((5, 9), fxp, 4)
    outcome = mpc(MAXIMUM.run, (x, fxp), (y, fxp), out=fxp)
    assert np.array_equal(outcome.value, np.maximum(x, y))
    outcome.assert_cost(MAXIMUM.cost(Spec((9,), fxp), Spec((5, 9), fxp), out=fxp), 2)
    floor = np.array([0.25])
    assert np.array_equal(mpc(MAXIMUM.run, (y, fxp), floor, out=fxp).value, np.maximum(y, floor))


def test_formats_must_agree(mpc):
    with pytest.raises(ValueError, match="one format"):
        mpc(MAXIMUM.run, (np.zeros(3), Fxp(16, 8)), (np.zeros(3), Fxp(16, 7)), out=Fxp(16, 8))
