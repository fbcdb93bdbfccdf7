"""Tests simulation and execution: inputs, re-randomised outputs, records of every step, and failures."""

import os

import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.protocol.party import run
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.values.formats import Fxp, encode
from ditto_kernels.values.replicated import share
from ditto_spu.errors import InputError, PartyError, RangeError
from ditto_spu.plan.plan import Input, KernelStep, Plan, SpuStep, Var
from ditto_spu.runtime.executor import Member, executing, reveal
from ditto_spu.runtime.simulate import simulate

PLAIN = {"default": "fxp32.12"}
F = Fxp(32, 12)
X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def plan_of(fn, *args, **options):
    return ditto.secure(fn, config=PLAIN, **options).lower(*args).plan


def one_step(step, fxp=F):
    return Plan(
        "f",
        "test",
        (Var((2, 3), "float32", F, "x"), Var((2, 3), "float32", fxp)),
        (Input("x", 0),),
        (step,),
        (1,),
        ((0,),),
    )


def test_a_plan_without_steps_returns_its_inputs():
    done = simulate(plan_of(lambda x: x, X), [X])
    np.testing.assert_allclose(done.outputs[0], X, atol=F.ulp)
    assert done.report.rows == ()


def test_progress_counts_every_step():
    plan, seen = plan_of(lambda x: (x @ x.T) * 0.3 + 1.0, X), []
    simulate(plan, [X], progress=lambda done, steps: seen.append((done, steps)))
    assert sorted(seen) == [(place + 1, len(plan.steps)) for place in range(len(plan.steps))]


def test_every_step_has_a_row_with_its_path_kind_and_format():
    plan = plan_of(lambda x: (x + x) @ x.T, X)
    rows = simulate(plan, [X]).report.rows
    assert [(row.step, row.kind, row.format, row.source) for row in rows] == [
        (0, "local", "fxp32.12", "counted"),
        (1, "matmul", "fxp32.12", "counted"),
    ]
    assert rows[0].messages == (0, 0, 0) and min(rows[1].messages) > 0


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int16, np.int32, np.uint32, np.float32])
def test_every_dtype_comes_back(dtype):
    x = np.array([[0, 1], [1, 0]], dtype)
    (result,) = simulate(plan_of(lambda x: x[::-1], x), [x]).outputs
    assert result.dtype == dtype and np.array_equal(result, x[::-1])


def test_the_extremes_of_integers_survive():
    x = np.array([-(2**31), 2**31 - 1], np.int32)
    assert np.array_equal(simulate(plan_of(lambda x: x.reshape(2, 1), x), [x]).outputs[0].ravel(), x)


def test_another_shape_than_compiled_for_is_refused():
    with pytest.raises(InputError, match=r"argument 'x' has shape \(2, 2\), but was compiled for \(2, 3\)"):
        simulate(plan_of(lambda x: x, X), [X[:, :2]])


def test_a_secret_outside_its_format_is_refused():
    with pytest.raises(RangeError, match=r"secret argument 'x': magnitude 1e\+06 does not fit fxp32\.12"):
        simulate(plan_of(lambda x: x, X), [X * 1e6])


def test_a_public_value_outside_its_format_is_refused():
    plan = plan_of(lambda x, b: x + b, X, X, public=("b",))
    with pytest.raises(RangeError, match=r"public value at '.*': magnitude 1e\+09 does not fit"):
        simulate(plan, [X, X * np.float32(1e9)])


def test_a_kernels_complaint_names_step_and_path():
    step = KernelStep("block", "multiply", (0, 0), (1,), (), (0,))
    with pytest.raises(PartyError, match=r"step 0 \(multiply\) at 'block': .* more than the product"):
        simulate(one_step(step, Fxp(32, 30)), [X])


def test_a_plan_for_spu_needs_spu():
    plan = one_step(SpuStep("", "text", (0,), (1,)))
    with pytest.raises(PartyError, match="this party was started without it"):
        run_three(lambda party, link: run(link, executing(plan, [Member(party, [None])], link)), timeout=5)


def test_an_error_of_the_progress_callback_reaches_the_caller():
    def stop(done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(plan_of(lambda x: x * x, X), [X], progress=stop)


def test_outputs_leave_under_a_fresh_zero_share():
    parts = share(encode(np.zeros((64,)), F), F, os.urandom)

    def program(party, link):
        return reveal(party, parts[party.rank])

    (first, second), _ = zip(*(run_three(program) for _ in range(2)), strict=True)
    for rank in range(3):
        assert not np.any(first[rank].next)
        assert not np.array_equal(first[rank].mine, parts[rank].mine)
        assert not np.array_equal(first[rank].mine, second[rank].mine)
    total = np.sum([part.mine for part in first], axis=0, dtype=np.int32)
    assert np.array_equal(total, np.zeros(64))


def test_a_seed_reproduces_the_shares_and_the_rounding():
    plan = plan_of(lambda x: x * x, X)
    runs = [simulate(plan, [X], seed=3).outputs[0] for _ in range(2)]
    assert np.array_equal(*runs)
    assert simulate(plan, [X], seed=-3).outputs[0].shape == (2, 3)
