"""Tests that checked mode joins every value, and names step, path and value of the first wrong one."""

import os

import numpy as np
import pytest

from ditto_kernels.values.formats import Fxp, encode
from ditto_kernels.values.replicated import share
from ditto_spu.errors import RangeError
from ditto_spu.plan.plan import Input, KernelStep, LocalInput, LocalStep, Plan, PublicStep, Var
from ditto_spu.runtime.checked_mode import Checker

F = Fxp(32, 12)
X = np.array([1.0, -3.0, 2.5])
MULTIPLY = KernelStep("block", "multiply", (0, 0), (1,), (), (0,))
LOCAL = LocalStep("block", "text", (LocalInput(0, "share"),), (1,))


def observed(step, result, range_=None, fxp=F, inputs=X, ranks=(0, 1, 2)):
    """Give the checker the three parties' shares of `result`."""
    plan = Plan(
        "f",
        "test",
        (Var((3,), "float32", F, "x"), Var((3,), "float32", fxp, "block", range_)),
        (Input("x", 0),),
        (step,),
        (1,),
        ((0,),),
    )
    checker = Checker(plan, {0: inputs})
    parts = share(encode(result, fxp), fxp, os.urandom)
    for rank in ranks:
        checker.observe(rank, 0, step, [parts[rank]])


def test_right_values_pass():
    observed(MULTIPLY, X * X, range_=9.0)
    observed(LOCAL, X)


@pytest.mark.parametrize("ranks", [(0, 1, 2), (2, 0, 1)])
def test_the_last_party_to_arrive_checks(ranks):
    observed(MULTIPLY, X, ranks=ranks[:2])
    with pytest.raises(RangeError, match="is off by"):
        observed(MULTIPLY, X, ranks=ranks)


def test_a_value_beyond_its_declared_range_is_named():
    with pytest.raises(RangeError, match=r"'block': \|value\| reached 3, more than the declared range 2"):
        observed(LOCAL, X, range_=2.0)


def test_a_result_that_its_format_cannot_hold_is_named():
    with pytest.raises(
        RangeError, match=r"step 0 \(multiply\) at 'block': the result 9 does not fit fxp8\.4"
    ):
        observed(MULTIPLY, np.zeros(3), fxp=Fxp(8, 4))


def test_a_wrong_result_is_named_with_its_operands():
    with pytest.raises(RangeError, match=r"off by 1 \(bound 0\.01.*\).*operands reach 3, 3"):
        observed(MULTIPLY, X * X + np.array([1, 0, 0]))


def test_public_steps_are_taken_as_they_are():
    plan = Plan(
        "f", "test", (Var((3,), "float32", None),), (), (PublicStep("", "", (), (0,)),), (0,), ((0,),)
    )
    checker = Checker(plan, {})
    for rank in range(3):
        checker.observe(rank, 0, plan.steps[0], [X])
