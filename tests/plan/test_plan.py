"""Tests that plans are readable, picklable, identified by their content, and aware of last uses."""

import pickle
from dataclasses import replace

from ditto_kernels.values.formats import Fxp
from ditto_spu.plan.plan import (
    Input,
    KernelStep,
    LocalInput,
    LocalStep,
    Plan,
    PublicStep,
    SpuStep,
    Var,
    kind,
    used,
)

WIDE = Fxp(64, 18)
EMPTY = Plan("f", "ditto", (Var((2,), "float32", WIDE, "x"),), (Input("x", 0),), (), (0,), ())
PLAN = Plan(
    "f",
    "ditto",
    (
        Var((2, 3), "float32", Fxp(32, 12), "x"),
        Var((), "int32", None, "n"),
        Var((2, 3), "float32", WIDE),
        Var((2, 3), "float32", WIDE),
        Var((2, 3), "float32", WIDE),
    ),
    (Input("x", 0), Input("n", 1)),
    (
        KernelStep("a/b", "cast", (0,), (2,), (("dim", 1), ("long", "x" * 99), ("none", None)), (1,)),
        LocalStep("a", "text", (LocalInput(2, "share"), LocalInput(1, "plain")), (3,)),
        SpuStep("c", "text", (3,), (4,)),
    ),
    (4, 1),
    ((0,), (1,), (2,)),
)


def test_a_plan_without_steps():
    assert str(EMPTY) == "plan f (ditto)\n  input  %0: fxp64.18[2]  x\n  output %0: fxp64.18[2]"
    assert EMPTY.last_uses == ()


def test_a_plan_is_readable():
    assert str(PLAN).splitlines() == [
        "plan f (ditto)",
        "  input  %0: fxp32.12[2,3]  x",
        "  input  %1: public int32[]  n",
        "    0 %2: fxp64.18[2,3] = cast(%0) dim=1 dealer=1  a/b",
        "    1 %3: fxp64.18[2,3] = local(%2, %1)  a",
        "    2 %4: fxp64.18[2,3] = spu(%3)  c",
        "  output %4: fxp64.18[2,3]",
        "  output %1: public int32[]",
    ]


def test_steps_that_share_rounds_are_marked():
    both = (KernelStep("", "cast", (0,), (2,), (), (0,)), KernelStep("", "cast", (0,), (3,), (), (1,)))
    lines = str(replace(PLAN, steps=both, stages=((0, 1),))).splitlines()
    assert lines[3].startswith("    0 %2") and lines[4].startswith(" |  1 %3")


def test_values_are_released_after_their_last_use_but_never_the_outputs():
    assert PLAN.last_uses == (frozenset({0}), frozenset({2}), frozenset({3}))


def test_a_plan_survives_pickling_and_its_hash_is_its_content():
    assert pickle.loads(pickle.dumps(PLAN)) == PLAN
    assert PLAN.hash() == pickle.loads(pickle.dumps(PLAN)).hash()
    assert PLAN.hash() != replace(PLAN, config="other").hash() != EMPTY.hash()


def test_kinds_and_uses():
    assert [kind(step) for step in PLAN.steps] == ["cast", "local", "spu"]
    assert kind(PublicStep("", "", (), (1,))) == "public"
    assert list(used(PLAN.steps[1])) == [2, 1]
