"""Bounds what a plan takes to run: the values that are alive at a time, and the time of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_spu.plan.plan import PRODUCTS, KernelStep, Plan, Var, used


@dataclass(frozen=True)
class PlanLimits:
    """The limits of a plan at one party.

    value_bytes: the largest size of one value, at eight bytes an element.
    total_bytes: the largest size of all values that are alive at a time, with what a step needs meanwhile.
    work: the longest time of a run, in additions or multiplications of two numbers, roughly.
    """

    value_bytes: int
    total_bytes: int
    work: int

    @property
    def piece(self) -> int:
        """Return the most work of one local or public step.

        Nothing interrupts such a step, and a unit of one operation may take ten times as long as another's.
        """
        return self.work // 10


@dataclass(frozen=True)
class Need:
    """What a run takes at one party: bytes that are in use at a time, and work.

    The bytes of a step are those beyond its operands and results.
    """

    bytes: int
    work: int


def plan_bytes(plan: Plan, steps: Mapping[int, Need]) -> int:
    """Return the most bytes that one party needs at a time for one call of the plan.

    steps: what each step takes, by its number.
    """
    alive = {each.var for each in plan.inputs}
    held = sum(var_bytes(plan.vars[var]) for var in alive)
    most = held
    for stage, released in zip(plan.stages, plan.last_uses, strict=True):
        made = {var for number in stage for var in plan.steps[number].outputs} - alive
        held += sum(var_bytes(plan.vars[var]) for var in made)
        alive |= made
        most = max(most, held + sum(steps[number].bytes for number in stage))
        held -= sum(var_bytes(plan.vars[var]) for var in released & alive)
        alive -= released
    return most


def var_bytes(var: Var) -> int:
    """Return the bytes of a value at one party: of two components, or of a public array."""
    count = math.prod(var.shape)
    return count * (8 if var.fxp is None else 2 * var.fxp.dtype.itemsize)


def kernel_size(plan: Plan, step: KernelStep) -> Need:
    """Return what a kernel takes. Raises ValueError, or another error of the kernel, if it is not sound."""
    operands = [plan.vars[var] for var in step.inputs]
    out = plan.vars[step.outputs[0]].fxp
    assert out is not None
    specs = [Spec(each.shape, each.fxp) for each in operands]
    kernel, attributes = KERNELS[step.kernel], dict(step.attributes)
    cost = kernel.cost(*specs, out=out, masked=plan.masked, worth=step.worth, **attributes)
    sent = cost.total_bytes
    sizes = [math.prod(plan.vars[var].shape) for var in (*used(step), *step.outputs)]
    # Sizes are of (m, k), (k, n), (m, n).
    products = math.isqrt(sizes[0] * sizes[1] * sizes[-1]) if step.kernel in PRODUCTS else 0
    return Need(sent, 8 * (sent + products + max(sizes)))
