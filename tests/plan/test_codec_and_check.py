"""Tests plans as data.

A plan that is encoded is decoded to an equal one, and a plan that a party should not run is refused.
"""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditto_kernels.values.formats import Fxp
from ditto_spu import secure
from ditto_spu.errors import InputError
from ditto_spu.models import MODELS
from ditto_spu.plan.check import check_plan
from ditto_spu.plan.codec import decode_plan, encode_plan
from ditto_spu.plan.plan import KernelStep, LocalStep
from ditto_spu.plan.resources import PlanLimits
from tests.on_spu import paired

LIMIT = PlanLimits(1 << 30, 1 << 32, 10**12)


def compiled(fn, *args, **options):
    return secure(fn, **options).lower(*args).plan


@pytest.fixture(scope="module")
def plan():
    def fn(x, w, mask):
        return jax.nn.softmax(jnp.where(mask, x @ w, -1e9)) + 1.0

    x = np.ones((4, 4), np.float32)
    return compiled(fn, x, x, np.ones((4, 4), bool), public=("mask",))


@pytest.mark.parametrize("name", ["bert-base-layer", "bert-tiny", "gelu", "layernorm", "matmul", "softmax"])
def test_plans_of_models_survive_as_data_and_pass(name):
    program = MODELS[name].build()
    plan = compiled(program.fn, *program.args, public=program.public)
    decoded = decode_plan(encode_plan(plan))
    assert decoded == plan
    assert decoded.hash() == plan.hash()
    check_plan(decoded, LIMIT)


def test_public_steps_and_masks_pass(plan):
    assert decode_plan(encode_plan(plan)) == plan
    check_plan(plan, LIMIT)


def with_step(plan, kind, **changes):
    number = next(i for i, step in enumerate(plan.steps) if isinstance(step, kind))
    steps = list(plan.steps)
    steps[number] = replace(steps[number], **changes)
    return replace(plan, steps=tuple(steps))


def with_var(plan, number, **changes):
    variables = list(plan.vars)
    variables[number] = replace(variables[number], **changes)
    return replace(plan, vars=tuple(variables))


CALL = """func.func public @main(%arg0: tensor<4x4xi32>) -> tensor<4x4xi32> {
  %0 = stablehlo.custom_call @anything(%arg0) : (tensor<4x4xi32>) -> tensor<4x4xi32>
  return %0 : tensor<4x4xi32> }"""


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: replace(p, mask_dealer=3), "none of the parties"),
        (lambda p: replace(p.dealt_by(0), mask_dealer=1), "one party deals for everything"),
        (lambda p: replace(p, outputs=()), "computes nothing"),
        (lambda p: replace(p, name="x" * 5000), "more than 4096 characters"),
        (lambda p: with_var(p, 0, path="x" * 5000), "more than 4096 characters"),
        (lambda p: replace(p, outputs=(999,)), "never computed"),
        (lambda p: replace(p, stages=p.stages[:-1]), "do not name every step once"),
        (lambda p: replace(p, stages=(*p.stages, p.stages[0])), "do not name every step once"),
        (lambda p: replace(p, stages=p.stages[::-1]), "not defined before it"),
        (lambda p: replace(p, stages=(tuple(range(len(p.steps))),)), "only kernels share a stage"),
        (lambda p: replace(p, inputs=(*p.inputs, p.inputs[0])), "not distinct"),
        (lambda p: with_var(p, 0, dtype="object"), "dtype 'object'"),
        (lambda p: with_var(p, 0, shape=(1 << 20, 1 << 20)), "larger than the limit"),
        (lambda p: with_var(p, 0, range=-1), "no positive number"),
        (lambda p: with_var(p, 0, range=float("nan")), "no positive number"),
        (lambda p: with_var(p, p.outputs[0], shape=(4, 5)), "refused"),
        (lambda p: with_var(p, p.outputs[0], fxp=None), "refused"),
        (lambda p: with_var(p, p.outputs[0], fxp=Fxp(8, 2)), "results differ"),
        (lambda p: with_step(p, KernelStep, kernel="reveal"), "no kernel 'reveal'"),
        (lambda p: with_step(p, KernelStep, dealers=(3,)), "dealers among the parties"),
        (lambda p: with_step(p, KernelStep, dealers=(1, 1)), "dealers among the parties"),
        (lambda p: with_step(p, KernelStep, dealers=(0, 1)), "cannot be cut into 2 parts"),
        (lambda p: with_step(p, KernelStep, attributes=(("open", True),)), "is refused"),
        (lambda p: with_step(p, KernelStep, worth=1 << 40), "a saved round cannot be worth"),
        (lambda p: with_step(p, KernelStep, outputs=(0,)), "defines variable 0 wrongly"),
        (lambda p: with_step(p, LocalStep, text="not a program"), "is refused"),
        (lambda p: with_step(p, LocalStep, text=CALL), "custom_call"),
        (lambda p: with_step(p, LocalStep, inputs=()), "arguments differ"),
    ],
    ids=range(28),
)
def test_a_plan_that_is_not_sound_is_refused(plan, spoil, reason):
    with pytest.raises(InputError, match=reason):
        check_plan(decode_plan(encode_plan(spoil(plan))), LIMIT)


def test_steps_of_spu_are_checked_as_far_as_their_types_go():
    plan = compiled(lambda x: paired(x), np.ones(4, np.float32))
    check_plan(decode_plan(encode_plan(plan)), LIMIT)
    (output,) = plan.outputs
    for changed, reason in (
        (with_var(plan, output, fxp=Fxp(32, 12)), "SPU computes float32 in fxp64.18"),
        (with_var(plan, output, fxp=None), "declared public"),
        (with_var(plan, output, shape=(5,)), "results differ"),
    ):
        with pytest.raises(InputError, match=reason):
            check_plan(changed, LIMIT)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000, b"null", b"1"], ids=range(7))
def test_what_is_no_plan_is_refused(data):
    with pytest.raises(InputError, match="no plan"):
        decode_plan(data)


JUNK = st.sampled_from([None, True, -1, 0, 7, 10**30, 1.5, "x", [], [[]], {}, {"fxp": "x"}, "fxp32.40"])


def _mutate(data, node, draw):
    """Replace one place of a nested structure by junk."""
    if isinstance(node, dict | list) and node and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(node)) if isinstance(node, dict) else st.integers(0, len(node) - 1))
        node[key] = _mutate(data, node[key], draw)
        return node
    return draw(JUNK)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_plans_are_refused_or_sound(plan, data):
    table = _mutate(None, json.loads(encode_plan(plan)), data.draw)
    try:
        changed = decode_plan(json.dumps(table).encode())
        check_plan(changed, LIMIT)
    except InputError:
        return
    assert changed.hash() == decode_plan(encode_plan(changed)).hash()
