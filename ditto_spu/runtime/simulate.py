"""Runs a plan among three simulated parties in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.link import LinkError, MemLink
from ditto_kernels.protocol.party import Party, run
from ditto_kernels.protocol.party import Protocol as ShareProtocol
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.sharing.deal_ahead import in_phase
from ditto_kernels.values.formats import decode, encode
from ditto_kernels.values.replicated import Rss, reconstruct
from ditto_spu.errors import InputError, PartyError, RangeError
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.kept import Kept, KeptHere
from ditto_spu.plan.plan import Plan, Step
from ditto_spu.runtime.blas_threads import shared_processors
from ditto_spu.runtime.checked_mode import Checker
from ditto_spu.runtime.client import join_output, share_input, without_guard
from ditto_spu.runtime.executor import Member, StepRecord, executing, prepare
from ditto_spu.runtime.material import Material
from ditto_spu.runtime.precompute import (
    NO_HELD_SHARES,
    HeldShares,
    client_key,
    digest_of_public,
    key_seed,
    precompute,
    random_bytes,
)
from ditto_spu.runtime.run_report import cost_report
from ditto_spu.spu.party import create_links
from ditto_spu.spu.steps import SpuLog, SpuSteps, compile_steps


@dataclass(frozen=True)
class Simulation:
    """The outputs of a run, in the order of the plan's, and its cost. Kept outputs are handles."""

    outputs: list[NDArray[Any] | Kept]
    report: CostReport


def simulate(
    plan: Plan,
    values: Sequence[Any],
    *,
    seed: int | None = None,
    checked: bool = False,
    progress: Callable[[int, int], None] | None = None,
    timeout: float = 300.0,
    material: Material | None = None,
    held: HeldShares = NO_HELD_SHARES,
    keep: Collection[int] = (),
) -> Simulation:
    """Share the inputs, run the plan at three parties and join the outputs.

    values: one per input of the plan. A value may be a handle of an output that an earlier run kept.
    seed: makes keys and shares reproducible and the run INSECURE. None draws both from the system.
    checked: joins every value inside the simulator, and raises RangeError for the first that is out of range.
    progress: is called by one party as `progress(steps done, steps in all)`.
    timeout: the seconds that a party waits for another one, in plans with steps on SPU.
    material: the result of `precompute` for this plan. This call spends it. With masked shares it is produced
        first if it is missing.
    held: shares that serve many calls, from `client.hold`. The values at their places are not read.
    keep: the places of outputs that stay in shares.

    Raises InputError for values that do not fit the plan, for material that does not serve this run, and for
    kept outputs or handles with masked shares. Raises RangeError for a value that does not fit its format.
    If a party fails, the others end at once, and its error is raised.
    """
    if material is not None and not isinstance(material, Material):
        raise InputError(f"material is {type(material).__name__}: give what `precompute` has returned")
    if plan.masked and (keep or any(isinstance(each, Kept) for each in values)):
        raise InputError(
            "masked shares belong to one request and its dealer: keep outputs in shares without `masked`"
        )
    prepare(plan)
    checker = Checker(plan, _plain_inputs(plan, values)) if checked else None
    if plan.masked and checked and material is not None:
        raise InputError("a checked run with masked shares deals within the run: leave `material` out")
    if plan.masked and material is None:
        observe_dealer = checker.observe if checker else None
        material = precompute(plan, values, seed=seed, observe=observe_dealer, held=held)
    source = random_bytes(client_key(seed) if material is None else material.client_key)
    shared = [
        held.parts[place] if place in held.parts else share_input(plan, entry, value, source)
        for place, (entry, value) in enumerate(zip(plan.inputs, values, strict=True))
    ]
    programs = compile_steps(plan)
    reporter = 0 if plan.mask_dealer is None else (plan.mask_dealer + 1) % 3  # a party that is online
    if material is not None:
        material.take(plan.hash(), held.token, digest_of_public(plan, values))
    with ExitStack() as stack:
        log = None
        spu: list[SpuSteps | None] = [None] * 3
        links = create_links(timeout) if programs else None
        if programs:
            log = SpuLog()
            stack.callback(log.close)

        def program(party: Party, link: MemLink) -> ShareProtocol[tuple[list[list[Any]], list[StepRecord]]]:
            if links is not None:
                spu[party.rank] = SpuSteps(links[party.rank], programs, True, link.meet)

            def observe(_: int, number: int, step: Step, results: Sequence[Any]) -> None:
                if checker is not None:
                    checker.observe(party.rank, number, step, results)
                if progress is not None and party.rank == reporter:
                    progress(number + 1, len(plan.steps))

            mine = [each[party.rank] for each in shared]
            dealer_values = None
            if material is not None:
                party = in_phase(party, "online")
                dealer_values = material.dealer_values if party.rank == plan.mask_dealer else None
            member = Member(party, mine, dealer_values)
            return executing(plan, [member], link, spu[party.rank], observe, keep)

        with_material: dict[str, Any] = (
            {} if material is None else {"keys": material.keys, "dealt": material.dealt}
        )
        stack.enter_context(shared_processors())
        started = time.perf_counter()
        try:
            if programs:  # SPU's runtimes wait for each other, so each party needs a thread of its own
                results, _ = run_three(
                    lambda party, link: run(link, program(party, link)),
                    seed=key_seed(seed),
                    timeout=timeout,
                    **with_material,
                )
            else:
                results, _ = run_in_turns(program, seed=key_seed(seed), **with_material)
        except LinkError as error:
            raise PartyError(f"the simulation of '{plan.name}' stopped: {error}") from error
        seconds = time.perf_counter() - started
        costs = log.costs() if log is not None else {}
    outputs: list[NDArray[Any] | Kept] = []
    for place, var in enumerate(plan.outputs):
        parts = [results[rank][0][0][place] for rank in range(3)]
        stays = place in keep and isinstance(parts[0], Rss)  # everyone knows a public one
        info = plan.vars[var]
        outputs.append(
            KeptHere(info.path or f"output {place}", info.dtype, parts) if stays else join_output(info, parts)
        )
    records = [records for _, records in results]
    outputs = without_guard(plan, outputs)
    return Simulation(outputs, cost_report(plan, records, costs, seconds, material))


def _plain_inputs(plan: Plan, values: Sequence[Any]) -> dict[int, NDArray[Any]]:
    """Return the inputs by variable, rounded to their formats as the parties hold them.

    The bounds of kernels presume operands that are rounded like this.
    """
    plain = {}
    for entry, value in zip(plan.inputs, values, strict=True):
        fxp = plan.vars[entry.var].fxp
        if isinstance(value, KeptHere):
            plain[entry.var] = decode(reconstruct(value.parts()), value.fxp)
            continue
        shared = fxp is not None and fxp.fraction_bits > 0
        try:
            plain[entry.var] = decode(encode(value, fxp), fxp) if fxp and shared else np.asarray(value)
        except ValueError as error:
            raise RangeError(
                f"secret argument '{entry.path}': {error}; scale it, or choose a wider format by a rule for "
                "its path"
            ) from None
    return plain
