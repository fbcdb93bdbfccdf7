"""Choose for every kernel of a plan what a saved round is worth, by the time predicted for a network.

A kernel has protocols that send more and take fewer rounds, and its worth decides among them (`Party.worth`).
Nothing else in the compiler chooses by rounds and bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ditto_kernels.protocol.round_worth import ROUND_WORTHS
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.network.model import LOOPBACK, Network, predicted_seconds
from ditto_spu.network.run_time import Load, predicted_run
from ditto_spu.passes.steps.schedule import schedule, step_cost
from ditto_spu.plan.plan import KernelStep, Step, Var

# The seconds of computing that a byte brings: it is made, sent, and used. For 23 MB more, three parties took
# 0.03 s more of their processors in a layer of BERT.
BYTE_SECONDS = 1.5e-9
# A choice may save so many rounds at once, and is then worth that many times the bytes.
_SAVED = 8


@dataclass(frozen=True)
class _Option:
    """A step with one worth, its rounds, and the seconds that its bytes take."""

    step: KernelStep
    rounds: int
    seconds: float


def choose_worths(
    steps: Sequence[Step], variables: Sequence[Var], network: Network, masked: bool = False
) -> list[Step]:
    """Return the steps with the worths that let each stage end first on the network.

    Kernels of one stage share rounds, so a kernel saves rounds only if the whole stage does. Among worths
    that save nothing more, the one with the fewest bytes is taken.
    """
    worths = _worths(network)
    chosen = list(steps)
    if len(worths) == 1:
        return chosen
    for stage in schedule(steps, variables):
        options = {
            number: _options(step, variables, network, worths, masked)
            for number in stage
            if isinstance(step := steps[number], KernelStep)
        }
        if options:
            for number, option in _fastest(options, network).items():
                chosen[number] = option.step
    return chosen


def _worths(network: Network) -> tuple[int, ...]:
    """Return the worths to try: up to the bytes of all parties that take as long as a few rounds.

    Parties as near as those of one host have the least one, for which the limits were measured.
    """
    if network.round_trip <= LOOPBACK.round_trip:
        return ROUND_WORTHS[:1]
    most = _SAVED * _round_seconds(1, network) / _byte_seconds(1, network)
    return tuple(each for each in ROUND_WORTHS if each <= max(most, ROUND_WORTHS[0]))


def _round_seconds(rounds: int, network: Network) -> float:
    """Return the seconds that so many rounds take between hosts, without their bytes."""
    return predicted_run(network, 0.0, Load(in_line=0, online=0, dealt=0, rounds=rounds))


def _byte_seconds(count: int, network: Network) -> float:
    """Return the seconds that so many bytes of all parties take, if they are levelled among these."""
    return count * predicted_seconds(network, BYTE_SECONDS, [1], 0) / PARTIES


def _options(
    step: KernelStep, variables: Sequence[Var], network: Network, worths: Sequence[int], masked: bool
) -> list[_Option]:
    """Return the step with each worth that changes its cost."""

    def cost(worth: int) -> tuple[int, int]:
        online, offline, rounds = step_cost(replace(step, worth=worth), variables, masked)
        return rounds, sum(online) + sum(offline)

    least, most = cost(worths[0]), cost(worths[-1])
    costs = {worths[0]: least} if least == most else {worth: cost(worth) for worth in worths}
    first = {each: worth for worth, each in reversed(costs.items())}  # the least worth of each cost
    return [
        _Option(replace(step, worth=worth), rounds, _byte_seconds(sent, network))
        for (rounds, sent), worth in sorted(first.items(), key=lambda item: item[1])
    ]


def _fastest(options: Mapping[int, Sequence[_Option]], network: Network) -> dict[int, _Option]:
    """Return the options of one stage that end first together."""
    best: tuple[float, dict[int, _Option]] | None = None
    for limit in sorted({each.rounds for tried in options.values() for each in tried}, reverse=True):
        chosen = {}
        for number, tried in options.items():
            fitting = [each for each in tried if each.rounds <= limit]
            if not fitting:  # a kernel takes more rounds than that in any way
                assert best is not None
                return best[1]
            chosen[number] = min(fitting, key=lambda each: each.seconds)
        rounds = max(each.rounds for each in chosen.values())
        seconds = sum(each.seconds for each in chosen.values()) + _round_seconds(rounds, network)
        if best is None or seconds < best[0]:
            best = seconds, chosen
    assert best is not None
    return best[1]
