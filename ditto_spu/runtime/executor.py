"""Runs a plan at one party, in a loop over its stages.

With masked shares the dealer has worked in the offline phase (`deal_plan.py`). Online it takes part only in
steps that all three parties run alike. The results of those steps get fresh masks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto_kernels import KERNELS
from ditto_kernels.products.multiply import zero_share
from ditto_kernels.protocol.link import Link, LinkError, Traffic
from ditto_kernels.protocol.party import Heavy, Party, Round, Together, parallel
from ditto_kernels.protocol.party import Protocol as ShareProtocol
from ditto_kernels.protocol.split_dealers import spread
from ditto_kernels.sharing.deal_ahead import remask
from ditto_kernels.values.formats import encode
from ditto_kernels.values.replicated import Known, Rss
from ditto_spu import ir
from ditto_spu.errors import DittoError, PartyError, RangeError
from ditto_spu.plan.plan import (
    KernelStep,
    LocalInput,
    LocalStep,
    Plan,
    PublicStep,
    SpuStep,
    Step,
    Var,
    kind,
)
from ditto_spu.runtime import local_steps

Value = Rss | NDArray[Any] | Known


class SpuRunner(Protocol):
    """The interface of SPU for the executor: it runs a program on shares (mine, next) and public arrays."""

    def run_step(
        self, text: str, inputs: Sequence[Rss | NDArray[Any]], kinds: Sequence[str], outputs: Sequence[Var]
    ) -> list[Rss]:
        """Run a step and return its results. `kinds` are the dtypes of the inputs in the user's program."""


@dataclass(frozen=True)
class StepRecord:
    """The cost of one step at one party.

    traffic: bytes, messages and rounds. Of the steps of one stage, the first one has all the messages.
    seconds: the time of the stage, divided by its number of steps.
    """

    step: int
    stage: int
    traffic: Traffic
    seconds: float


Observer = Callable[[int, Step, Sequence[Value]], None]

SIDE_BY_SIDE = 1 << 21  # above so many multiplications, parties of one process begin a stage at the same time
LARGE_ROUND = 1 << 18  # above so many bytes in a round, they also continue after it at the same time


def prepare(plan: Plan) -> None:
    """Compile the local and the public steps once, before each of three parties would do it."""
    for step in plan.steps:
        if isinstance(step, LocalStep):
            local_steps.prepare(step.text)
        elif isinstance(step, PublicStep):
            ir.prepare(step.text)


@dataclass(frozen=True)
class Member:
    """One call of a plan at one party.

    inputs: one per input of the plan: shares of a secret argument, the array of a public one.
    dealer_values: at the dealer of masked shares, its parts of outputs and of operands that it needs online,
        as it computed them in the offline phase. None elsewhere, and in runs without material.
    """

    party: Party
    inputs: Sequence[Value]
    dealer_values: Mapping[int, Value] | None = None


def executing(
    plan: Plan,
    members: Sequence[Member],
    link: Link,
    spu: SpuRunner | None = None,
    observe: Callable[[int, int, Step, Sequence[Value]], None] | None = None,
    keep: Collection[int] = (),
) -> ShareProtocol[tuple[list[list[Value]], list[StepRecord]]]:
    """Run every step of the plan for a batch of calls, as a protocol.

    The calls' kernels share communication rounds. Whoever drives the protocol takes its rounds. It reads
    counts off the link, and its steps on SPU block.

    members: the calls. Each has its own names for streams and messages (`Party.at`), or another request's
        keys.
    spu: runs the steps on SPU. A plan without such steps needs none.
    observe: is called with the number of the member, the number of the step, the step and its results.
    keep: the places of outputs that stay at the parties. They come back as the replicated shares that they
        are.

    Returns this party's outputs for each call, and one `StepRecord` per step, summed over the batch. A secret
    output is a 3-of-3 share, re-randomised by `reveal`. Raises PartyError if a step fails, with its number
    and path, or if SPU is missing. Raises RangeError if a public value does not fit its format.
    """
    parties = [as_planned(plan, each.party) for each in members]
    envs: list[dict[int, Value]] = [
        {entry.var: value for entry, value in zip(plan.inputs, each.inputs, strict=True)}
        | dict(each.dealer_values or {})
        for each in members
    ]
    away = members[0].dealer_values is not None
    records = []
    for place, (stage, released) in enumerate(zip(plan.stages, plan.last_uses, strict=True)):
        link.start_clock()
        before, started = link.traffic(), time.perf_counter()
        active = tuple(number for number in stage if not away or joint(plan.steps[number]))
        try:
            run_stage = _stage(active, plan, plan.work[place], parties, link, envs, spu)
            results, sent = (yield from run_stage) if active else ([], [])
        except (DittoError, LinkError):
            raise
        except Exception as error:  # any error of a kernel or library: the user learns where it arose
            names = ", ".join(f"step {number} ({kind(plan.steps[number])})" for number in stage)
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise PartyError(f"{names} at '{plan.steps[stage[0]].path}': {text}") from error
        seconds = (time.perf_counter() - started) / len(stage)
        messages = link.traffic().since(before)
        for number, of_members, counted in zip(active, results, sent, strict=True):
            first = number == active[0]  # steps of a stage share messages, and the first one reports them
            traffic = messages if len(active) == 1 else _of_step(messages, counted, first)
            records.append(StepRecord(number, place, traffic, seconds))
            for member, values in enumerate(of_members):
                envs[member].update(zip(plan.steps[number].outputs, values, strict=True))
                if observe is not None:
                    observe(member, number, plan.steps[number], values)
        for env in envs:
            for var in released:
                env.pop(var, None)  # also of `dealer_values`: each is needed up to its last use
    outputs = [
        [
            env[var] if place in keep else reveal(party.at(f"output{place}"), env[var])
            for place, var in enumerate(plan.outputs)
        ]
        for party, env in zip(parties, envs, strict=True)
    ]
    return outputs, records


def as_planned(plan: Plan, party: Party) -> Party:
    """Return the party in the plan's mode: masked shares have one dealer for everything."""
    return party if plan.mask_dealer is None else party._replace(masked=True, dealer=plan.mask_dealer)


def joint(step: Step) -> bool:
    """Return whether all three parties run a step alike and online, even with masked shares."""
    if isinstance(step, KernelStep):
        return KERNELS[step.kernel].all_deal
    return isinstance(step, PublicStep | SpuStep)


def reveal(party: Party, value: Value) -> Value:
    """Return an output as it leaves the party: a fresh 3-of-3 share in `mine`, or a public output itself."""
    if not isinstance(value, Rss):
        return value
    masked = np.asarray(value.mine) + zero_share(party, "reveal", value.shape, value.fxp.ring_bits)
    return Rss(masked, np.zeros_like(masked), value.fxp)


@dataclass
class _Sent:
    """The bytes that one step sends while it shares messages with other steps."""

    online: int = 0
    offline: int = 0


def _of_step(stage: Traffic, sent: _Sent, first: bool) -> Traffic:
    """Return the traffic of one step of a stage. The first step has the messages, and all have the rounds."""
    return Traffic(
        sent.online,
        stage.messages if first else 0,
        sent.offline,
        stage.offline_messages if first else 0,
        stage.rounds,
    )


def _counted(protocol: ShareProtocol[Any], sent: _Sent) -> ShareProtocol[Any]:
    """Return the same protocol, whose bytes are added to `sent` as it sends them."""

    def count(step: Round) -> Round:
        for each in step.sends:
            size = np.asarray(each.array).nbytes
            sent.online, sent.offline = (
                sent.online + size * (not each.offline),
                sent.offline + size * each.offline,
            )
        return step

    return _each_round(protocol, count)


def _stage(
    stage: tuple[int, ...],
    plan: Plan,
    work: tuple[int, int],
    parties: Sequence[Party],
    link: Link,
    envs: Sequence[dict[int, Value]],
    spu: SpuRunner | None,
) -> ShareProtocol[tuple[list[list[Sequence[Value]]], list[_Sent]]]:
    """Run one stage. Returns by step the results of each member, and all bytes unless the step is alone."""
    sent = [_Sent() for _ in stage]
    step = plan.steps[stage[0]]
    first, later = work
    if first > SIDE_BY_SIDE:
        yield Together()
    if isinstance(step, KernelStep):
        protocols = [
            _counted(kernel_protocol(plan, number, party, env), count)
            if len(stage) > 1
            else kernel_protocol(plan, number, party, env)
            for number, count in zip(stage, sent, strict=True)
            for party, env in zip(parties, envs, strict=True)
        ]
        together = parallel(*protocols)
        results = yield from (_side_by_side(together) if later > SIDE_BY_SIDE else together)
        made: list[Sequence[Value]] = [[result] for result in results]
        return [made[start : start + len(envs)] for start in range(0, len(made), len(envs))], sent
    if isinstance(step, LocalStep):
        return [[linear(step, plan, party.rank, env) for party, env in zip(parties, envs, strict=True)]], sent
    if isinstance(step, PublicStep):
        return [[ir.evaluate(step.text, [env[var] for var in step.inputs]) for env in envs]], sent
    if spu is None:
        raise PartyError("the plan has steps for SPU, but this party was started without it")
    kinds = [plan.vars[var].dtype for var in step.inputs]
    outputs = [plan.vars[var] for var in step.outputs]
    results = [
        spu.run_step(step.text, [_array(env[var]) for var in step.inputs], kinds, outputs) for env in envs
    ]
    if plan.masked:
        again = [
            remask(party.at(f"step{stage[0]}").at(str(place)), each)
            for party, values in zip(parties, results, strict=True)
            for place, each in enumerate(values)
        ]
        flat = yield from parallel(*again)
        results = [flat[start : start + len(outputs)] for start in range(0, len(flat), len(outputs))]
    return [[*results]], sent


def _side_by_side(protocol: ShareProtocol[Any]) -> ShareProtocol[Any]:
    """Return the same protocol. Parties of one process take up its large rounds at the same time."""

    def weigh(step: Round) -> Round:
        sent = sum(np.asarray(each.array).nbytes for each in step.sends)
        received = sum(math.prod(each.shape) * each.dtype.itemsize for each in step.receives)
        return Heavy(step.sends, step.receives) if max(sent, received) > LARGE_ROUND else step

    return _each_round(protocol, weigh)


def _each_round(protocol: ShareProtocol[Any], change: Callable[[Round], Round]) -> ShareProtocol[Any]:
    """Return the same protocol, whose rounds go through `change` before they are taken."""
    received: list[NDArray[Any]] | None = None
    while True:
        try:
            step = next(protocol) if received is None else protocol.send(received)
        except StopIteration as stop:
            return stop.value
        received = yield change(step)


def kernel_protocol(plan: Plan, number: int, party: Party, env: Mapping[int, Value]) -> ShareProtocol[Any]:
    """Return the protocol of one kernel of the plan at one party."""
    step = plan.steps[number]
    assert isinstance(step, KernelStep)
    out = plan.vars[step.outputs[0]].fxp
    assert out is not None
    mine, kernel = party.at(f"step{number}")._replace(worth=step.worth), KERNELS[step.kernel]
    operands: list[Any] = [env[var] if kernel.keeps_public else _array(env[var]) for var in step.inputs]
    attributes: dict[str, Any] = dict(step.attributes)
    if len(step.dealers) > 1:
        return spread(kernel, mine, operands, out, step.dealers, **attributes)
    mine = mine.with_dealer(step.dealers[0])
    if plan.masked and kernel.all_deal:
        return _remasked(mine, kernel.run(mine._replace(masked=False), *operands, out=out, **attributes))
    return kernel.run(mine, *operands, out=out, **attributes)


def _array(value: Value) -> Rss | NDArray[Any]:
    return np.asarray(value.value) if isinstance(value, Known) else value


def _remasked(party: Party, protocol: ShareProtocol[Rss]) -> ShareProtocol[Rss]:
    result = yield from protocol
    return (yield from remask(party, result))


def linear(step: LocalStep, plan: Plan, rank: int, env: Mapping[int, Value]) -> list[Rss]:
    """Run a local step on both components. Affine terms belong to component 0, which parties 0 and 2 hold."""
    components = []
    for place in range(2):
        holds_zero = (rank + place) % 3 == 0
        arguments = [_argument(each, plan, env[each.var], place, holds_zero) for each in step.inputs]
        components.append(local_steps.evaluate(step.text, arguments))
    results = []
    for mine, following, var in zip(*components, step.outputs, strict=True):
        fxp = plan.vars[var].fxp
        assert fxp is not None and mine.dtype == fxp.dtype, (step.path, mine.dtype, fxp)
        results.append(Rss(mine, following, fxp))
    return results


def _argument(entry: LocalInput, plan: Plan, value: Value, place: int, holds_zero: bool) -> Any:
    if isinstance(value, Rss):
        return value.next if place else value.mine
    if entry.use == "plain":
        return value
    assert entry.fxp is not None
    if entry.use == "affine" and not holds_zero:
        return np.zeros(value.shape, entry.fxp.dtype)
    try:
        return encode(value, entry.fxp)
    except ValueError as error:
        raise RangeError(f"public value at '{plan.vars[entry.var].path}': {error}") from error
