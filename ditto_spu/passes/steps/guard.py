"""Add the steps that tell the client, in one bit, whether a product of the request left its ring.

Parties on hosts see no values, so they count in shares what wrapped (`kernels/products/product_guard.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ditto_kernels import KERNELS
from ditto_kernels.products.guard_bit import ANSWER
from ditto_kernels.products.matmul import MATMUL
from ditto_kernels.products.matmul_public import MATMUL_PUBLIC
from ditto_kernels.products.product_guard import WRAPS, sums_of, watched
from ditto_kernels.protocol.kernel import Spec
from ditto_spu import ir
from ditto_spu.ops.decision import Decision
from ditto_spu.passes.formats.verify import product_room, result_room
from ditto_spu.plan.plan import PATIENT, Attributes, KernelStep, Step, Var

COUNTS, BIT = PATIENT
GROUP = 8  # so many products are watched together, which takes fewer messages and keeps values longer


def fits(op: ir.Op, decision: Decision, known: Mapping[ir.Value, ir.Interval]) -> bool:
    """Tell whether a product stays in its rings, whatever the inputs are.

    known: intervals that hold the numbers of the program.
    """
    assert decision.natural is not None
    low, high = known.get(op.results[0], ir.EVERYTHING)
    return max(-low, high) < min(product_room(decision.natural, decision.out), result_room(op, decision))


def add_guard(
    steps: list[Step], variables: list[Var], unproven: Collection[int], given: Collection[int]
) -> int | None:
    """Append the steps, and return the variable of the bit: it is 0 if everything is in range.

    steps, variables: those of a plan in the making. Both grow.
    unproven: the results of products whose range nothing proves.
    given: the inputs of the plan. Of two operands the input is summed, because weights are small numbers.

    Returns None if no product can be watched.
    """
    products = [
        (step, attributes)
        for step in steps
        if isinstance(step, KernelStep) and step.outputs[0] in unproven
        if (attributes := _attributes(step, variables, given)) is not None
    ]
    if not products:
        return None
    counts = [_count(products[start : start + GROUP], variables) for start in range(0, len(products), GROUP)]
    variables.append(Var((1,), "int64", ANSWER, "guard"))
    every = tuple(step.outputs[0] for step in counts)
    steps += [*counts, KernelStep("guard", BIT, every, (len(variables) - 1,), (), (0,))]
    return len(variables) - 1


def _attributes(step: KernelStep, variables: list[Var], given: Collection[int]) -> Attributes | None:
    """Return how the guard watches a product, or None where it cannot."""
    if KERNELS[step.kernel] not in (MATMUL, MATMUL_PUBLIC):
        return None
    x, w, y = (Spec(variables[var].shape, variables[var].fxp) for var in (*step.inputs, *step.outputs))
    plain: dict[str, Any] = dict(step.attributes)
    sides = {side: found for side in ("right", "left") if (found := watched(x, w, y, **plain, summed=side))}
    if not sides:
        return None
    if x.fxp is None or w.fxp is None:
        summed = "left" if plain["public_left"] else "right"
    elif (step.inputs[0] in given) != (step.inputs[1] in given):
        summed = "left" if step.inputs[0] in given else "right"
    else:  # the side that leaves fewer sums
        summed = max(sides, key=lambda side: sides[side].summed)
    return (*step.attributes, ("summed", summed))


def _count(products: Sequence[tuple[KernelStep, Attributes]], variables: list[Var]) -> KernelStep:
    operands = tuple(var for step, _ in products for var in (*step.inputs, *step.outputs))
    told = tuple(attributes for _, attributes in products)
    variables.append(Var((sums_of([variables[var] for var in operands], told),), "float32", WRAPS, "guard"))
    return KernelStep("guard", COUNTS, operands, (len(variables) - 1,), (("products", told),), (0,))
