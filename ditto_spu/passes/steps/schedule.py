"""Order the steps of a plan in stages that share rounds, and choose the dealer of each kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ditto_kernels import KERNELS
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.split_dealers import cut, spread_costs
from ditto_kernels.sharing.deal_ahead import remask
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.network.model import LOOPBACK, Network, predicted_seconds
from ditto_spu.plan.cost_report import Triple
from ditto_spu.plan.plan import PATIENT, KernelStep, Step, Var, kind, used

# The admitted ratio of the busiest party to the mean. Levelling further would cut kernels, which costs some
# time.
LEVEL = 1.15
# The admitted seconds for which parties wait for the dealer of one kernel. A cut costs messages and calls.
LONG = 20e-3
Dealers = tuple[int, ...]
_WHOLE: tuple[Dealers, ...] = ((0,), (1,), (2,))
_HALVES: tuple[Dealers, ...] = ((0, 1), (1, 2), (0, 2))
_THIRDS: tuple[Dealers, ...] = ((0, 1, 2),)
_TRIED = 3  # how many of the dearest kernels are tried for the next cut
Cuts = Mapping[int, tuple[Dealers, ...]]  # kernels in parts, and who may deal for the parts


def schedule(steps: Sequence[Step], variables: Sequence[Var]) -> tuple[tuple[int, ...], ...]:
    """Return the stages as tuples of step numbers, each step as early as possible.

    All ready local work comes first, and then all ready kernels together. Kernels of the guard wait for a
    stage that lasts as many rounds as they do, so that they add none. What is left of them runs beside the
    last kernels, or after these if it reads their results.
    """
    maker = {var: number for number, step in enumerate(steps) for var in step.outputs}
    waits = [{maker[var] for var in used(step) if var in maker} for step in steps]
    stages: list[tuple[int, ...]] = []
    done: set[int] = set()
    left = list(range(len(steps)))
    while left:
        ready = [number for number in left if waits[number] <= done]
        single = [number for number in ready if not isinstance(steps[number], KernelStep)]
        # Local steps run one at a time: each may make others ready, and costs no round.
        later = [number for number in left if number not in ready and isinstance(steps[number], KernelStep)]
        last = all(kind(steps[number]) in PATIENT for number in later)
        stage = (single[0],) if single else _together(ready, steps, variables, last)
        stages.append(stage)
        done.update(stage)
        left = [number for number in left if number not in done]
    return tuple(stages)


def _together(
    ready: Sequence[int], steps: Sequence[Step], variables: Sequence[Var], last: bool
) -> tuple[int, ...]:
    """Return the ready kernels that run in the next stage.

    last: whether no other kernels than those of the guard come after it.
    """
    patient = [number for number in ready if kind(steps[number]) in PATIENT]
    urgent = [number for number in ready if number not in patient]
    if not urgent or not patient or last:
        return tuple(ready)
    lasts = max(_rounds(steps[number], variables) for number in urgent)
    return (*urgent, *(number for number in patient if _rounds(steps[number], variables) <= lasts))


def _rounds(step: Step, variables: Sequence[Var]) -> int:
    assert isinstance(step, KernelStep)
    return step_cost(step, variables)[2]


def balance(steps: Sequence[Step], variables: Sequence[Var], network: Network = LOOPBACK) -> list[Step]:
    """Return the steps with dealers that level the bytes sent by the three parties.

    A kernel whose dealer would send for long, while the others wait, is cut into thirds to begin with. While
    the busiest party sends more than LEVEL times the mean, one more of the dearest kernels is cut, into
    halves or thirds with one dealer each. The first cut that levels the parties is taken, or else the one
    that helps most.
    """
    kernels = {number: step for number, step in enumerate(steps) if isinstance(step, KernelStep)}
    dearest = sorted(kernels, key=lambda each: -sum(_by_dealers(kernels[each], variables, (0,))))
    whole = [number for number in dearest if _divisible(kernels[number], variables)]
    cuts: Cuts = {number: _THIRDS for number in whole if _waits(kernels[number], variables, network)}
    whole = [number for number in whole if number not in cuts]
    dealers, totals = _choose(kernels, variables, dearest, cuts)
    while not _level(totals) and whole:
        tried = [{**cuts, number: options} for options in (_HALVES, _THIRDS) for number in whole[:_TRIED]]
        sums = [_choose(kernels, variables, dearest, each)[1] for each in tried]
        enough = [each for each, sent in zip(tried, sums, strict=True) if _level(sent)]
        cuts = enough[0] if enough else tried[sums.index(min(sums, key=max))]
        whole = [number for number in whole if number not in cuts]
        dealers, totals = _choose(kernels, variables, dearest, cuts)
    return [
        replace(step, dealers=dealers[number]) if isinstance(step, KernelStep) else step
        for number, step in enumerate(steps)
    ]


def _waits(step: KernelStep, variables: Sequence[Var], network: Network) -> bool:
    """Return whether the busiest party of a kernel sends for longer than the mean by `LONG`."""
    sent = _by_dealers(step, variables, (0,))
    return predicted_seconds(network, 0.0, [round(max(sent) - sum(sent) / PARTIES)], 0) > LONG


def _level(totals: Sequence[int]) -> bool:
    return max(totals) * PARTIES <= LEVEL * sum(totals)


def _divisible(step: KernelStep, variables: Sequence[Var]) -> bool:
    shapes = [variables[var].shape for var in step.inputs]
    return cut(KERNELS[step.kernel], shapes, PARTIES, **dict(step.attributes)) is not None


def _choose(
    kernels: Mapping[int, KernelStep],
    variables: Sequence[Var],
    dearest: Sequence[int],
    cuts: Cuts,
) -> tuple[dict[int, Dealers], list[int]]:
    """Choose dealers for the dearest steps first.

    Each step takes the dealers that leave the busiest party least busy.
    """
    totals = [0, 0, 0]
    chosen: dict[int, Dealers] = {}
    for number in dearest:
        step = kernels[number]
        turn = len(chosen) % PARTIES  # equal dealers take turns
        options = cuts.get(number, (*_WHOLE[turn:], *_WHOLE[:turn]))
        sums = {
            dealers: [a + b for a, b in zip(totals, _by_dealers(step, variables, dealers), strict=True)]
            for dealers in options
        }
        chosen[number] = min(sums, key=lambda dealers: sorted(sums[dealers], reverse=True))
        totals = sums[chosen[number]]
    return chosen, totals


def _by_dealers(step: KernelStep, variables: Sequence[Var], dealers: Dealers) -> list[int]:
    online, offline, _ = step_cost(replace(step, dealers=dealers), variables)
    return [sent + dealt for sent, dealt in zip(online, offline, strict=True)]


def step_cost(step: KernelStep, variables: Sequence[Var], masked: bool = False) -> tuple[Triple, Triple, int]:
    """Return (online bytes, offline bytes, rounds) of a step.

    The bytes are those that parties 0, 1 and 2 send, as triples.
    masked: whether the shares are masked shares.
    """
    kernel, out = KERNELS[step.kernel], variables[step.outputs[0]].fxp
    assert out is not None
    specs = [Spec(variables[var].shape, variables[var].fxp) for var in step.inputs]
    attributes = dict(step.attributes)
    if len(step.dealers) == 1:
        cost = kernel.cost(*specs, out=out, masked=masked, worth=step.worth, **attributes)
        if masked and kernel.all_deal:
            cost = cost + cost_of(remask, Spec(variables[step.outputs[0]].shape, out))
        return (*cost.by_rank(step.dealers[0]), cost.rounds)
    costs = spread_costs(kernel, specs, out, len(step.dealers), step.worth, **attributes)
    parts = [cost.by_rank(dealer) for dealer, cost in zip(step.dealers, costs, strict=True)]
    online, offline = (
        (sum(p[i][0] for p in parts), sum(p[i][1] for p in parts), sum(p[i][2] for p in parts))
        for i in range(2)
    )
    return online, offline, max(cost.rounds for cost in costs)
