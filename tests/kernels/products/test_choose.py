"""Choices by a shared boolean, and logic: exact for all values, also where differences wrap."""

import itertools

import numpy as np
import pytest

from ditto_kernels.products.choose import LOGIC, LOGIC_OPERATIONS, SELECT
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode

BOOLEAN = Fxp(64, 0)
BITS = np.array([0.0, 1.0, 0.0, 1.0] * 5)


@pytest.mark.parametrize("fxp", [Fxp(8, 2), Fxp(16, 8), Fxp(32, 12), Fxp(64, 0)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_all_values_may_be_chosen(mpc, fxp, masked):
    rng, top = np.random.default_rng(0), 1 << min(fxp.ring_bits - 1, 50)
    x, y = (decode(rng.integers(-top, top, 20), fxp) for _ in range(2))
    x[0], y[0] = decode(np.array([top - 1, -top]), fxp)
    expected = np.where(BITS == 1, x, y)
    for left, right in itertools.product((x, (x, fxp)), (y, (y, fxp))):
        outcome = mpc(SELECT.run, (BITS, BOOLEAN), left, right, out=fxp, masked=masked)
        assert np.array_equal(outcome.value, expected)
        specs = [Spec(x.shape, fxp if isinstance(each, tuple) else None) for each in (left, right)]
        cost = SELECT.cost(Spec(BITS.shape, BOOLEAN), *specs, out=fxp, masked=masked)
        outcome.assert_cost(cost, 2)


def test_a_public_choice_of_two_public_values_costs_nothing(mpc):
    cost = SELECT.cost(Spec((9,), BOOLEAN), Spec(()), Spec(()), out=Fxp(32, 12))
    assert (cost.total_bytes, cost.rounds) == (0, 0)


@pytest.mark.parametrize("operation", LOGIC_OPERATIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_logic(mpc, operation, masked):
    x, y = (each.ravel() for each in np.meshgrid([0.0, 1.0], [0.0, 1.0]))
    options = {"out": BOOLEAN, "operation": operation, "masked": masked}
    if operation == "not":
        assert np.array_equal(mpc(LOGIC.run, (x, BOOLEAN), **options).value, x == 0)
        return
    expected = LOGIC_OPERATIONS[operation](x, y)
    for left, right in (((x, BOOLEAN), (y, BOOLEAN)), (x == 1, (y, BOOLEAN)), ((x, BOOLEAN), y == 1)):
        assert np.array_equal(mpc(LOGIC.run, left, right, **options).value, expected)


def test_predicates_with_fraction_bits_and_unknown_operations_are_refused(mpc):
    x = np.ones(3)
    with pytest.raises(ValueError, match="no fraction bits"):
        mpc(SELECT.run, (x, Fxp(64, 3)), x, x, out=Fxp(32, 12))
    with pytest.raises(ValueError, match="ring 32"):
        mpc(SELECT.run, (x, Fxp(16, 0)), x, x, out=Fxp(32, 12))
    with pytest.raises(ValueError, match="no logical operation"):
        mpc(LOGIC.run, (x, BOOLEAN), (x, BOOLEAN), out=BOOLEAN, operation="nand")
