"""Test segment: it cuts the cast module into public, local, kernel and SPU steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.values.formats import Fxp
from ditto_spu.passes.steps.schedule import schedule
from ditto_spu.plan.plan import KernelStep, LocalInput, LocalStep, PublicStep, SpuStep, Var, kind
from tests.on_spu import paired

X = np.ones((2, 3), np.float32)
W = np.ones((3, 4), np.float32)
N = np.array([1, 2, 3], np.int32)


def kinds(plan):
    return [kind(step) for step in plan.steps]


def test_a_program_that_does_nothing_has_no_steps(compile_to):
    assert str(compile_to(lambda x: x, X).plan()) == (
        "plan fn (test)\n  input  %0: fxp32.12[2,3]  x\n  output %0: fxp32.12[2,3]"
    )


def test_public_outputs_take_one_public_step(compile_to):
    plan = compile_to(lambda x: (x + 1.0, x * 2.0, x), X, public=("x",)).plan()
    assert kinds(plan) == ["public"]
    assert plan.outputs[2] == 0 and plan.vars[0].fxp is None


def test_a_chain_of_linear_operations_is_one_step_on_ring_integers(compile_to):
    plan = compile_to(lambda x, y: ((x + y).T - 1.5)[::-1], X, X).plan()
    assert kinds(plan) == ["public", "local"]
    step = plan.steps[1]
    assert [each.use for each in step.inputs] == ["share", "share", "affine"]
    assert step.inputs[2].fxp == Fxp(32, 12)
    assert "tensor<3x2xi32>" in step.text and "f32" not in step.text


def test_a_public_value_used_in_two_ways_cuts_the_step(compile_to):
    plan = compile_to(lambda x, n: x * n + n, X, N, public=("n",)).plan()
    uses = [[each.use for each in step.inputs] for step in plan.steps if isinstance(step, LocalStep)]
    assert uses == [["share", "factor"], ["share", "affine"]]


def test_an_index_stays_as_it_is(compile_to):
    plan = compile_to(
        lambda x, i: jax.lax.dynamic_slice(x, (i, i), (1, 1)), X, np.int32(1), public=("i",)
    ).plan()
    (step,) = (step for step in plan.steps if isinstance(step, LocalStep))
    assert [each.use for each in step.inputs] == ["share", "plain", "plain"]
    assert "tensor<i32>" in step.text


@pytest.mark.parametrize("array", [N, N > 1, N.astype(np.uint8)])
def test_shared_integers_and_booleans_are_rearranged_in_ring_64(array, compile_to):
    plan = compile_to(lambda n: n[::-1].reshape(3, 1), array).plan()
    (step,) = plan.steps
    assert isinstance(step, LocalStep)
    assert "tensor<3x1xi64>" in step.text
    assert not any(f"x{element}>" in step.text for element in ("i1", "i32", "ui8"))
    assert plan.vars[plan.outputs[0]].dtype == str(array.dtype)


def test_public_choices_of_shared_booleans_are_logic(compile_to):
    plan = compile_to(lambda b, p: jnp.where(p, b, b[::-1]), N > 1, N > 2, public=("p",)).plan()
    assert "logic" in kinds(plan) and "spu" not in kinds(plan)


def test_the_cast_of_a_product_is_part_of_its_kernel(compile_to):
    (step,) = (plan := compile_to(lambda x, w: x @ w, X, W).plan()).steps
    assert step == KernelStep("", "matmul", (0, 1), (2,), (("dims", (((1,), (0,)), ((), ()))),), dealers=(0,))
    assert plan.vars[2].fxp == Fxp(32, 12)


def test_a_product_with_several_readers_keeps_its_own_cast(compile_to):
    plan = compile_to(lambda x, w: jnp.tanh(x @ w) + x @ w, X, W).plan()
    assert kinds(plan)[0] == "matmul" and plan.vars[plan.steps[0].outputs[0]].fxp == Fxp(32, 12)


@pytest.mark.parametrize("left", [False, True])
def test_a_product_with_a_public_matrix(left, compile_to):
    fn = (lambda x, w: w.T @ x.T) if left else (lambda x, w: x @ w)
    plan = compile_to(fn, X, W, public=("w",)).plan()
    step = next(step for step in plan.steps if isinstance(step, KernelStep))
    assert step.kernel == "matmul_public"
    attributes = dict(step.attributes)
    assert (attributes["weight_fraction_bits"], attributes["public_left"]) == (12, left)
    assert plan.vars[step.inputs[0]].fxp is not None and plan.vars[step.inputs[1]].fxp is None


def test_dealers_take_turns(compile_to):
    plan = compile_to(lambda x: x * (x * (x * (x * x))), X).plan()
    dealers = [step.dealers for step in plan.steps if step.kernel == "multiply"]
    assert set(dealers) == {(0,), (1,), (2,)}


def test_a_dear_elementwise_kernel_is_dealt_by_all(compile_to):
    plan = compile_to(jnp.tanh, np.ones((20, 20), np.float32)).plan()
    assert [step.dealers for step in plan.steps] == [(0, 1, 2)]
    assert "dealer=0,1,2" in str(plan)


def test_kernels_keep_composite_attributes(compile_to):
    plan = compile_to(lambda x: jax.nn.softmax(x * 0.25, axis=0), X).plan()
    (step,) = (step for step in plan.steps if isinstance(step, KernelStep))
    assert step.kernel == "softmax"
    assert {"dim": 0, "scale": 0.25}.items() <= dict(step.attributes).items()


def test_what_no_kernel_does_is_one_spu_step_with_its_constants(compile_to):
    plan = compile_to(lambda x: paired(x) * 2.0 + paired(paired(x)), X).plan()
    (step,) = (step for step in plan.steps if isinstance(step, SpuStep))
    assert step.text.count("stablehlo.reduce_window") == 2
    assert plan.vars[step.outputs[0]].fxp == Fxp(64, 18)


def test_a_multiplication_by_a_power_of_two_keeps_the_elements(compile_to):
    plan = compile_to(lambda x: (x + x) * 4.0, X).plan()
    assert [plan.vars[step.outputs[0]].fxp for step in plan.steps] == [Fxp(32, 12), Fxp(32, 10)]
    assert plan.steps[1].inputs == (LocalInput(plan.steps[0].outputs[0], "share"),)
    plan = compile_to(lambda x: (x + x) * 0.25, X).plan()
    assert kinds(plan) == ["local", "local", "cast"]
    assert [plan.vars[step.outputs[0]].fxp for step in plan.steps[1:]] == [Fxp(32, 14), Fxp(32, 12)]


def test_a_value_is_lifted_where_a_linear_step_has_only_public_data(compile_to):
    plan = compile_to(lambda x: jnp.concatenate([jnp.zeros((1, 3)), x]), X).plan()
    (step,) = (step for step in plan.steps if isinstance(step, LocalStep))
    assert {each.use for each in step.inputs} == {"share", "affine"}


def test_declared_ranges_reach_the_variables(compile_to):
    config = {"default": "fxp32.12", "rule": [{"op": "tanh", "range": 2.0}, {"op": "add", "range": 9.0}]}
    plan = compile_to(lambda x: jnp.tanh(x) + 1.0, X, config=config).plan()
    assert [plan.vars[var].range for step in plan.steps[1:] for var in step.outputs] == [2.0, 9.0]


def test_independent_kernels_share_a_stage():
    steps = [
        KernelStep("", "cast", (0,), (2,), (), (0,)),
        KernelStep("", "cast", (1,), (3,), (), (1,)),
        PublicStep("", "", (), (4,)),
        KernelStep("", "multiply", (2, 3), (5,), (), (2,)),
        LocalStep("", "", (LocalInput(5, "share"),), (6,)),
        KernelStep("", "cast", (6,), (7,), (), (0,)),
    ]
    assert schedule(steps, ()) == ((2,), (0, 1), (3,), (4,), (5,))
    assert schedule([], ()) == ()


def test_a_guard_waits_for_the_last_kernels_at_most():
    formats = (Fxp(32, 12), Fxp(64, 12), WRAPS, Fxp(64, 10))
    variables = [Var((4,), "float32", each) for each in formats]
    first, later = KernelStep("", "cast", (0,), (1,), (), (0,)), KernelStep("", "cast", (1,), (3,), (), (0,))
    ranges = (("ranges", ((0.0, 1.0),)),)
    guard = KernelStep("", "range_guard", (0,), (2,), ranges, (0,))  # takes more rounds than a cast
    assert schedule([first, guard], variables) == ((0, 1),)
    assert schedule([first, guard, later], variables) == ((0,), (1, 2))


def test_softmax_knows_the_declared_range_of_its_scores(compile_to):
    config = {"default": "fxp32.12", "rule": [{"op": "matmul", "range": 60.0}]}
    plan = compile_to(lambda x, w: jax.nn.softmax(x @ w), X, W, config=config).plan()
    assert dict(plan.steps[-1].attributes)["range"] == 60.0
    plan = compile_to(lambda x: jax.nn.softmax(x), X).plan()
    assert "range" not in dict(plan.steps[-1].attributes)


def test_segmenting_leaves_the_module_as_it_is(compile_to):
    """Ranges are numbered by the operations of the module, also after public indices were widened."""
    program = compile_to(lambda n, i: n[i] + n[0], N, np.int32(2), public=("i",))
    before = program.lines()
    assert kinds(program.plan()) and program.lines() == before
