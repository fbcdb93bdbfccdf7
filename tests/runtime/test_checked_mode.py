"""Tests that checked mode joins every value, and names step, path and value of the first wrong one."""

import contextlib
import os
import threading

import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.values.formats import Fxp, encode
from ditto_kernels.values.replicated import share
from ditto_spu.errors import PartyError, RangeError
from ditto_spu.plan.plan import Input, KernelStep, LocalInput, LocalStep, Plan, PublicStep, Var
from ditto_spu.runtime import precompute, simulate
from ditto_spu.runtime.checked_mode import Checker
from ditto_spu.spu.party import SpuParty
from ditto_spu.spu.steps import SpuSteps
from tests.on_spu import paired

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


def test_a_kernel_waits_for_the_reports_of_what_it_reads():
    """The dealer of masked shares reports its kernels ahead, and steps that all three run later."""
    double = KernelStep("block", "multiply", (1, 1), (2,), (), (0,))
    variables = tuple(Var((3,), "float32", F, name) for name in "xyz")
    plan = Plan("f", "test", variables, (Input("x", 0),), (LOCAL, double), (2,), ((0,), (1,)))
    for last, match in ((X * X, None), (X, "is off by")):
        checker = Checker(plan, {0: X})
        reports = [share(encode(each, F), F, os.urandom) for each in (X, last)]
        for rank, number in ((2, 1), (0, 0), (1, 0), (0, 1), (1, 1)):
            checker.observe(rank, number, plan.steps[number], [reports[number][rank]])
        with contextlib.nullcontext() if match is None else pytest.raises(RangeError, match=match):
            checker.observe(2, 0, LOCAL, [reports[0][2]])


def test_a_value_beyond_its_declared_range_is_named():
    with pytest.raises(RangeError, match=r"'block': \|value\| reached 3, more than the range 2 on"):
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


def within(seconds, work):
    """Return the exception that `work` raises, or None. Fails if it takes longer than that."""
    outcome = []

    def attempt():
        try:
            work()
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, f"it still runs after {seconds} s"
    return outcome[0]


WINDOW = {"default": "fxp32.12", "rule": [{"op": "divide", "approx": "window"}]}
ONE = np.array([1.0], np.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "program",
    [lambda x, y: paired(x / y), lambda x, y: paired(x + 0.5) + x / y, lambda x, y: paired(x / y) @ y],
)
def test_a_range_error_beside_a_step_of_spu_ends_all_parties(program, masked):
    function = ditto.secure(program, config=WINDOW, checked=True, check=False, masked=masked)
    error = within(60, lambda: function(ONE, -ONE))
    assert isinstance(error, RangeError) and "(divide)" in str(error)
    np.testing.assert_allclose(function(ONE, 2 * ONE), program(ONE, 2 * ONE), atol=0.01)  # it goes on


@pytest.mark.parametrize("place", ["before", "inside", "after"])
@pytest.mark.parametrize("fault", [KeyError("seeded"), MemoryError("seeded"), KeyboardInterrupt("seeded")])
def test_any_failure_of_one_party_around_spu_ends_the_others(monkeypatch, place, fault):
    run_step, run = SpuSteps.run_step, SpuParty.run

    def step_fails(self, *args):
        if self._party.rank == 1 and place == "before":
            raise fault
        results = run_step(self, *args)
        if self._party.rank == 1 and place == "after":
            raise fault
        return results

    def party_fails(self, *args):
        if self.rank == 1 and place == "inside":
            raise fault
        return run(self, *args)

    links = simulate.create_links  # those inside SPU wait until its timeout, while the caller goes on
    monkeypatch.setattr(simulate, "create_links", lambda _: links(3.0))
    monkeypatch.setattr(SpuSteps, "run_step", step_fails)
    monkeypatch.setattr(SpuParty, "run", party_fails)
    function = ditto.secure(lambda x: paired(x) * paired(x + 1), config="auto")
    error = within(60, lambda: function(ONE))
    if isinstance(fault, KeyboardInterrupt):
        assert error is fault
    else:
        assert isinstance(error, PartyError) and "seeded" in str(error) and "(spu)" in str(error)


def test_a_failure_while_dealing_reaches_the_caller(monkeypatch):
    def fails(plan, party, *args):
        raise PartyError("seeded")

    monkeypatch.setattr(precompute, "deal_offline", fails)
    error = within(60, lambda: ditto.secure(lambda x: paired(x), config="auto").precompute(ONE))
    assert isinstance(error, PartyError)


def test_a_step_of_generation_that_leaves_its_range_ends_all_parties():
    """Kept outputs have no plaintext, so checked mode alone sees them."""
    step = ditto.secure(lambda x: paired(x) / x, config=WINDOW, checked=True)
    (kept,) = ditto.secure(lambda x: (-x,), config={"default": "fxp32.12"}).run(ONE, keep=(0,)).outputs
    assert isinstance(within(60, lambda: step(kept)), RangeError)
