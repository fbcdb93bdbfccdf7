"""Order the steps of a plan in stages that share rounds, and choose who deals for each kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ditto_kernels import KERNELS
from ditto_kernels.cost import Cost
from ditto_kernels.kernel import Spec
from ditto_kernels.rss import PARTIES
from ditto_spu.plan import KernelStep, Step, Var, used


def schedule(steps: Sequence[Step]) -> tuple[tuple[int, ...], ...]:
    """Stages of step numbers: as soon as possible, all ready local work, then all ready kernels together."""
    maker = {var: number for number, step in enumerate(steps) for var in step.outputs}
    waits = [{maker[var] for var in used(step) if var in maker} for step in steps]
    stages: list[tuple[int, ...]] = []
    done: set[int] = set()
    left = list(range(len(steps)))
    while left:
        ready = [number for number in left if waits[number] <= done]
        single = [number for number in ready if not isinstance(steps[number], KernelStep)]
        # One local step at a time: it may make others ready, and costs no round.
        stage = (single[0],) if single else tuple(ready)
        stages.append(stage)
        done.update(stage)
        left = [number for number in left if number not in done]
    return tuple(stages)


def balance(steps: Sequence[Step], variables: Sequence[Var]) -> list[Step]:
    """Give every kernel step the dealer that levels the bytes sent by the three parties.

    The dearest steps choose first, each the dealer that leaves the busiest party least busy.
    """
    totals = [0, 0, 0]
    chosen: dict[int, int] = {}
    costs = {
        number: _cost(step, variables) for number, step in enumerate(steps) if isinstance(step, KernelStep)
    }
    for number in sorted(costs, key=lambda each: -costs[each].total_bytes):
        after = [_added(totals, costs[number], dealer) for dealer in range(PARTIES)]
        # Among equals the dealers take turns, so that no party deals everything of a small plan.
        turn = len(chosen) % PARTIES
        chosen[number] = min(
            range(PARTIES), key=lambda dealer: (sorted(after[dealer])[::-1], (dealer - turn) % 3)
        )
        totals = after[chosen[number]]
    return [
        replace(step, dealer=chosen[number]) if isinstance(step, KernelStep) else step
        for number, step in enumerate(steps)
    ]


def _cost(step: KernelStep, variables: Sequence[Var]) -> Cost:
    specs = [Spec(variables[var].shape, variables[var].fxp) for var in step.inputs]
    return KERNELS[step.kernel].cost(*specs, out=variables[step.outputs[0]].fxp, **dict(step.attributes))


def _added(totals: Sequence[int], cost: Cost, dealer: int) -> list[int]:
    online, offline = cost.by_rank(dealer)
    return [total + sent + dealt for total, sent, dealt in zip(totals, online, offline, strict=True)]
