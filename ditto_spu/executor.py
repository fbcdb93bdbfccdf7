"""Run a plan at one party: a loop over its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto_kernels import KERNELS
from ditto_kernels.link import Link, Traffic
from ditto_kernels.multiply import zero_share
from ditto_kernels.party import Party, run
from ditto_kernels.ring import encode
from ditto_kernels.rss import Rss
from ditto_spu import ir
from ditto_spu.errors import PartyError, RangeError
from ditto_spu.plan import KernelStep, LocalInput, LocalStep, Plan, PublicStep, SpuStep, Step, Var

Value = Rss | NDArray[Any]


class SpuRunner(Protocol):
    """What the executor needs of SPU: run a program on shares (mine, next) and public arrays."""

    def run_step(
        self, text: str, inputs: Sequence[Value], kinds: Sequence[str], outputs: Sequence[Var]
    ) -> list[Rss]:
        """The results; `kinds` are the inputs' dtypes in the user's program."""


@dataclass(frozen=True)
class StepRecord:
    """What one step cost one party."""

    step: int
    traffic: Traffic
    seconds: float


Observer = Callable[[int, Step, Sequence[Value]], None]


def execute(
    plan: Plan,
    party: Party,
    link: Link,
    inputs: Sequence[Value],
    spu: SpuRunner | None = None,
    observe: Observer | None = None,
) -> tuple[list[Value], list[StepRecord]]:
    """Run all steps; returns this party's output parts (`reveal` has masked the shared ones) and a record a step.

    inputs: one value per `plan.inputs`, shares for secret arguments and arrays for public ones.
    `observe` sees every step's results: the simulator's checked mode and progress use it.
    """
    env: dict[int, Value] = {each.var: value for each, value in zip(plan.inputs, inputs, strict=True)}
    records = []
    for number, (step, released) in enumerate(zip(plan.steps, plan.last_uses(), strict=True)):
        link.start_clock()
        before, started = link.traffic(), time.perf_counter()
        try:
            results = _run(step, plan, party.at(f"step{number}"), link, env, spu)
        except (ValueError, FloatingPointError) as error:
            raise PartyError(f"step {number} ({_name(step)}) at '{step.path}': {error}") from error
        seconds = time.perf_counter() - started
        records.append(StepRecord(number, link.traffic().since(before), seconds))
        env.update(zip(step.outputs, results, strict=True))
        if observe is not None:
            observe(number, step, results)
        for var in released:
            env.pop(var, None)
    return [reveal(party.at(f"output{place}"), env[var]) for place, var in enumerate(plan.outputs)], records


def reveal(party: Party, value: Value) -> Value:
    """What leaves the party: a fresh 3-of-3 share of an output, in `mine`; public outputs as they are."""
    if not isinstance(value, Rss):
        return value
    masked = np.asarray(value.mine) + zero_share(party, "reveal", value.shape, value.fxp.ring_bits)
    return Rss(masked, np.zeros_like(masked), value.fxp)


def _name(step: Step) -> str:
    return step.kernel if isinstance(step, KernelStep) else type(step).__name__


def _run(
    step: Step, plan: Plan, party: Party, link: Link, env: dict[int, Value], spu: SpuRunner | None
) -> Sequence[Value]:
    if isinstance(step, KernelStep):
        kernel = KERNELS[step.kernel]
        out = plan.vars[step.outputs[0]].fxp
        operands = [env[var] for var in step.inputs]
        protocol = kernel.run(party.with_dealer(step.dealer), *operands, out=out, **dict(step.attributes))
        return [run(link, protocol)]
    if isinstance(step, LocalStep):
        return _linear(step, plan, party.rank, env)
    if isinstance(step, PublicStep):
        return ir.evaluate(step.text, [env[var] for var in step.inputs])
    assert isinstance(step, SpuStep)
    if spu is None:
        raise PartyError("the plan has steps for SPU, but this party was started without it")
    kinds = [plan.vars[var].dtype for var in step.inputs]
    results = [plan.vars[var] for var in step.outputs]
    return spu.run_step(step.text, [env[var] for var in step.inputs], kinds, results)


def _linear(step: LocalStep, plan: Plan, rank: int, env: dict[int, Value]) -> list[Rss]:
    """The step on both components; a public affine term belongs to component 0 alone, held by parties 0 and 2."""
    components = []
    for place in range(2):
        holds_zero = (rank + place) % 3 == 0
        arguments = [_argument(each, plan, env[each.var], place, holds_zero) for each in step.inputs]
        components.append(ir.evaluate(step.text, arguments))
    results = []
    for mine, following, var in zip(*components, step.outputs, strict=True):
        fxp = plan.vars[var].fxp
        assert fxp is not None
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
