"""Argmax is exact for every length and at the ends of its range, and takes the first of equal entries."""

import numpy as np
import pytest

from ditto_kernels.maximum.argmax import ARGMAX
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode

OUT = Fxp(32, 0)


@pytest.mark.parametrize("fxp", [Fxp(8, 2), Fxp(16, 8), Fxp(32, 12)], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 5), (1, 64), (2, 3, 67), (1, 4999)], ids=str)
def test_one_hot_at_the_largest_for_every_length(mpc, fxp, shape):
    bound = 1 << (fxp.ring_bits - 2)
    integers = np.random.default_rng(0).integers(-bound, bound, shape)
    integers.flat[0], integers.flat[-1] = -bound, bound - 1
    x = decode(integers, fxp)
    for dealer in range(3):
        outcome = mpc(ARGMAX.run, (x, fxp), out=OUT, dim=-1, dealer=dealer)
        assert np.array_equal(outcome.value, ARGMAX.reference(x))
        outcome.assert_cost(ARGMAX.cost(Spec(shape, fxp), out=OUT, dim=-1), dealer)


def test_of_equal_entries_the_first_is_chosen(mpc):
    fxp = Fxp(8, 0)
    x = np.array(np.meshgrid(*[[-2, 0, 1]] * 5)).reshape(5, -1).T
    value = mpc(ARGMAX.run, (x, fxp), out=OUT).value
    assert np.array_equal(value, ARGMAX.reference(x))
    assert np.array_equal(np.argmax(value, axis=-1), np.argmax(x, axis=-1))


def test_ties_over_pairs_and_fours_go_to_the_first(mpc):
    fxp = Fxp(16, 0)
    x = np.random.default_rng(1).integers(0, 3, (1, 3001))
    assert np.array_equal(mpc(ARGMAX.run, (x, fxp), out=OUT).value, ARGMAX.reference(x))


def test_the_output_format_scales_the_one(mpc):
    x, out = np.array([[1.0, 2.0, 0.5]]), Fxp(16, 9)
    outcome = mpc(ARGMAX.run, (x, Fxp(16, 8)), out=out, dim=1)
    assert np.array_equal(outcome.value, [[0, 1, 0]])
    assert outcome.parts[0].fxp == out
