"""Add the steps that tell the client, in one bit, whether a product of the request left its ring.

Parties on hosts see no values, so they count in shares what wrapped (`kernels/products/product_guard.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ditto_kernels.products.guard_bit import ANSWER
from ditto_kernels.products.product_guard import WRAPS, can_watch, counted
from ditto_kernels.protocol.kernel import Spec
from ditto_spu import ir
from ditto_spu.ops.decision import Decision
from ditto_spu.passes.formats.verify import product_room, result_room
from ditto_spu.plan.plan import PATIENT, KernelStep, Step, Var

COUNTS, BIT = PATIENT


def fits(op: ir.Op, decision: Decision, known: Mapping[ir.Value, ir.Interval]) -> bool:
    """Tell whether a product stays in its rings, whatever the inputs are.

    known: intervals that hold the numbers of the program.
    """
    assert decision.natural is not None
    low, high = known.get(op.results[0], ir.EVERYTHING)
    return max(-low, high) < min(product_room(decision.natural, decision.out), result_room(op, decision))


def add_guard(
    steps: list[Step], variables: list[Var], watched: Collection[int], given: Collection[int]
) -> int | None:
    """Append the steps, and return the variable of the bit: it is 0 if everything is in range.

    steps, variables: those of a plan in the making. Both grow.
    watched: the results of products whose range nothing proves.
    given: the inputs of the plan. Of two operands the input is summed, because weights are small numbers.

    Returns None if no product can be watched.
    """
    products = [step for step in steps if isinstance(step, KernelStep) and step.outputs[0] in watched]
    counts = [_count(step, variables, given) for step in products if _watchable(step, variables)]
    if not counts:
        return None
    steps += counts
    variables.append(Var((1,), "int64", ANSWER, "guard"))
    every = tuple(step.outputs[0] for step in counts)
    steps.append(KernelStep("guard", BIT, every, (len(variables) - 1,), (), (0,)))
    return len(variables) - 1


def _watchable(step: KernelStep, variables: list[Var]) -> bool:
    if step.kernel not in ("matmul", "matmul_public"):
        return False
    attributes: dict[str, Any] = dict(step.attributes)
    x, w, y = (Spec(variables[var].shape, variables[var].fxp) for var in (*step.inputs, *step.outputs))
    return can_watch(x, w, y, attributes.get("range"), attributes.get("weight_fraction_bits"))


def _count(step: KernelStep, variables: list[Var], given: Collection[int]) -> KernelStep:
    attributes: dict[str, Any] = dict(step.attributes)
    x, w = (variables[var].shape for var in step.inputs)
    left = attributes.get("public_left", False)
    sides = {side: counted(x, w, attributes["dims"], side, left) for side in ("right", "left")}
    if "weight_fraction_bits" in attributes:
        summed = "left" if left else "right"
    elif (step.inputs[0] in given) != (step.inputs[1] in given):
        summed = "left" if step.inputs[0] in given else "right"
    else:
        summed = min(sides, key=sides.__getitem__)
    variables.append(Var((sides[summed],), "float32", WRAPS, step.path))
    inputs = (*step.inputs, *step.outputs)
    told = (*step.attributes, ("summed", summed))
    return KernelStep(step.path, COUNTS, inputs, (len(variables) - 1,), told, (0,))
