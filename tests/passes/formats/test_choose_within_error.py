"""Test the choice of formats and approximations by cost under an error limit.

The tests cover the choices, when narrow formats are considered, and refusals.
"""

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.values.formats import Fxp
from ditto_spu.errors import ConfigError
from ditto_spu.plan.plan import KernelStep

X, W = np.ones((8, 16), np.float32) / 16, np.ones((16, 32), np.float32)


def gelu(x, w):
    return jax.nn.gelu(x @ w, approximate=False)


def plan(fn, *args, rules):
    return ditto.secure(fn, config={"default": "fxp32.12", "rule": rules}).lower(*args).plan


def operand_and_step(compiled, kernel):
    step = next(s for s in compiled.steps if isinstance(s, KernelStep) and s.kernel == kernel)
    return compiled.vars[step.inputs[0]].fxp, dict(step.attributes)


LIMITED = {"op": "gelu", "error": 0.008}


def test_a_declared_range_lets_the_producer_land_in_a_narrow_ring():
    compiled = plan(gelu, X, W, rules=[{"op": "matmul", "range": 20.0}, LIMITED])
    operand, attributes = operand_and_step(compiled, "gelu")
    assert operand.ring_bits == 16 and attributes["approx"] == "fourier"
    assert [step.kernel for step in compiled.steps if isinstance(step, KernelStep)] == ["matmul", "gelu"]


def test_without_a_declared_range_no_narrow_ring_is_risked():
    operand, _ = operand_and_step(plan(gelu, X, W, rules=[LIMITED]), "gelu")
    assert operand.ring_bits == 32


def test_a_range_too_large_for_ring_16_keeps_ring_32():
    """Ring 16 leaves 8 fraction bits for a range of 60, which is too few for this limit."""
    rules = [{"op": "matmul", "range": 60.0}, {"op": "gelu", "error": 0.006}]
    operand, _ = operand_and_step(plan(gelu, X, W, rules=rules), "gelu")
    assert operand.ring_bits == 32


@pytest.mark.parametrize("limit", [0.02, 0.01, 0.006])
def test_the_bound_of_what_is_chosen_stays_within_the_limit(limit):
    from ditto_kernels import KERNELS
    from ditto_kernels.protocol.kernel import Spec

    rules = [{"op": "matmul", "range": 3.0}, {"op": "gelu", "error": limit}]
    operand, attributes = operand_and_step(plan(gelu, X, W, rules=rules), "gelu")
    bound = KERNELS["gelu"].error(Spec((8, 32), operand), out=Fxp(32, 12), **attributes)
    assert bound + 1.13 * 1.5 * operand.ulp <= limit


def test_a_replacement_is_never_chosen():
    """Quad is by far the cheapest, but it is another function."""
    _, attributes = operand_and_step(plan(gelu, X, W, rules=[{"op": "gelu", "error": 10.0}]), "gelu")
    assert attributes["approx"] != "quad"


def test_what_rules_set_stays():
    rules = [{"op": "gelu", "operand": "fxp32.13"}, {"op": "gelu", "error": 0.02}]
    operand, _ = operand_and_step(plan(gelu, X, W, rules=rules), "gelu")
    assert operand == Fxp(32, 13)


def test_softmax_and_tanh_take_limits_too():
    rules = [{"op": "matmul", "range": 30.0}, {"op": ["softmax", "tanh"], "error": 0.02}]
    compiled = plan(lambda x, w: jax.nn.softmax(x @ w), X, W, rules=rules)
    assert operand_and_step(compiled, "softmax")[0].ring_bits == 16
    compiled = plan(lambda x, w: jax.numpy.tanh(x @ w), X, W, rules=rules)
    assert operand_and_step(compiled, "tanh")[0].ring_bits == 16


def test_a_limit_that_nothing_meets_names_the_path_and_the_least_bound():
    with pytest.raises(
        ConfigError, match=r"gelu at .*: no format .* within error = 1e-06; the least bound is 0\.00"
    ):
        plan(gelu, X, W, rules=[{"op": "gelu", "error": 1e-6}])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"op": "matmul", "error": 0.1}, "an error limit is for softmax, silu, mish, softplus, gelu, tanh"),
        ({"error": 0.1}, "not for every op"),
        ({"op": "gelu", "error": -1}, "error -1 is not a positive finite number"),
        ({"op": "gelu", "error": "small"}, "error must be a number"),
    ],
)
def test_wrong_limits_are_explained(rule, message):
    with pytest.raises(ConfigError, match=message):
        plan(gelu, X, W, rules=[rule])
