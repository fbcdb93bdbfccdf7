"""The offline phase of a plan at one party, which deals material before any input exists."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from ditto_kernels import KERNELS
from ditto_kernels.protocol.link import Send
from ditto_kernels.protocol.party import Party
from ditto_kernels.protocol.split_dealers import parts
from ditto_kernels.sharing.deal_ahead import deal_ahead, dealers_part, in_phase, nothing
from ditto_spu import ir
from ditto_spu.plan.plan import KernelStep, LocalStep, Plan, PublicStep, Step, used
from ditto_spu.runtime.executor import Observer, Value, as_planned, joint, kernel_protocol, linear


@dataclass(frozen=True)
class PartyMaterial:
    """The material that one party has dealt for a plan.

    sends: by step, the tensors that it deals, each with its receiver.
    dealer_values: by variable, the dealer's own parts of the values that it needs online: its components of
        secret values, and public arrays. None unless this party is the dealer of masked shares.
    """

    sends: dict[int, list[Send]]
    dealer_values: dict[int, Value] | None


def deal_offline(
    plan: Plan, party: Party, inputs: Sequence[Value], observe: Observer | None = None
) -> PartyMaterial:
    """Deal for every kernel of which this party is a dealer, and return all that it has dealt.

    The arguments are those of `dealing`.
    """
    sends: dict[int, list[Send]] = {}
    steps = dealing(plan, party, inputs, observe)
    while True:
        try:
            number, sends[number] = next(steps)
        except StopIteration as stop:
            return PartyMaterial(sends, stop.value)


def dealing(
    plan: Plan, party: Party, inputs: Sequence[Value], observe: Observer | None = None
) -> Generator[tuple[int, list[Send]], None, dict[int, Value] | None]:
    """Deal step by step, in the order of the stages. Yields each step and the tensors that are dealt for it.

    inputs: one per input of the plan. Public arguments are arrays. Secret arguments are `nothing`, which has
        a shape and a format alone. The dealer of masked shares gives its two components instead, and then
        computes its part of every value.
    observe: is called at the dealer of masked shares with the number, the step and the results of each step
        that it computes.

    Returns `PartyMaterial.dealer_values`.
    """
    party = in_phase(as_planned(plan, party), "ahead")
    masking = party.rank == plan.mask_dealer
    env: dict[int, Value] = {each.var: value for each, value in zip(plan.inputs, inputs, strict=True)}
    needed = _needed_online(plan) if masking else frozenset()
    for stage, released in zip(plan.stages, plan.last_uses, strict=True):
        for number in stage:
            step = plan.steps[number]
            values, sends = _step(plan, number, party, env, masking)
            yield number, sends
            env.update(zip(step.outputs, values, strict=True))
            if observe is not None and masking and not joint(step):
                observe(number, step, values)
        for var in released - needed:
            env.pop(var, None)
    return {var: env[var] for var in needed} if masking else None


def _needed_online(plan: Plan) -> frozenset[int]:
    """Return the variables that the dealer of masked shares needs after the offline phase.

    These are the outputs of the plan, and the operands of steps that all three parties run alike.
    """
    operands = {var for step in plan.steps if joint(step) for var in used(step)}
    return frozenset(operands | set(plan.outputs))


def _step(
    plan: Plan, number: int, party: Party, env: dict[int, Value], masking: bool
) -> tuple[Sequence[Value], list[Send]]:
    """Return this party's part of a step's results, or placeholders for it, and the tensors that it deals."""
    step = plan.steps[number]
    if isinstance(step, PublicStep):
        return ir.evaluate(step.text, [env[var] for var in step.inputs]), []
    if masking and isinstance(step, LocalStep):
        return linear(step, plan, party.rank, env), []
    if isinstance(step, KernelStep):
        return _kernel(plan, number, step, party, env, masking)
    return _results(plan, number, step, party, masking), []


def _results(plan: Plan, number: int, step: Step, party: Party, masking: bool) -> list[Value]:
    """Return fresh masks as results at the dealer of masked shares, and placeholders elsewhere."""
    results: list[Value] = []
    for place, var in enumerate(step.outputs):
        info = plan.vars[var]
        assert info.fxp is not None
        mine = party.at(f"step{number}")
        mine = mine if isinstance(step, KernelStep) else mine.at(str(place))
        results.append(dealers_part(mine, info.shape, info.fxp) if masking else nothing(info.shape, info.fxp))
    return results


def _kernel(
    plan: Plan, number: int, step: KernelStep, party: Party, env: dict[int, Value], masking: bool
) -> tuple[Sequence[Value], list[Send]]:
    """Return this party's part of a kernel's result, or a placeholder, and the tensors that it deals."""
    kernel, out = KERNELS[step.kernel], plan.vars[step.outputs[0]].fxp
    assert out is not None
    mine = party.with_dealer(step.dealers[0])
    if masking and not kernel.all_deal:
        value, sends = deal_ahead(kernel_protocol(plan, number, mine, env))
        return [value], sends
    results = _results(plan, number, step, mine, masking)
    if not kernel.all_deal and party.rank not in step.dealers:
        return results, []
    operands: list[Any] = [
        nothing(plan.vars[var].shape, fxp) if (fxp := plan.vars[var].fxp) else env[var] for var in step.inputs
    ]
    mine = mine.at(f"step{number}")._replace(masked=False, worth=step.worth)
    attributes = dict(step.attributes)
    if len(step.dealers) > 1:
        part = parts(kernel, mine, operands, out, step.dealers, **attributes)[step.dealers.index(party.rank)]
        return results, deal_ahead(part)[1]
    return results, deal_ahead(kernel.run(mine, *operands, out=out, **attributes))[1]
