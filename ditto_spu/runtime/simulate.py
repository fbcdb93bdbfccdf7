"""Three simulated parties in one process, and the client that shares inputs and joins outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.link import MemLink, Traffic
from ditto_kernels.protocol.party import Party, run
from ditto_kernels.protocol.party import Protocol as ShareProtocol
from ditto_kernels.protocol.three_threads import run_three
from ditto_kernels.sharing.deal_ahead import in_phase
from ditto_kernels.values.formats import decode, encode
from ditto_kernels.values.replicated import Known, Rss, reconstruct, share
from ditto_spu.errors import InputError, RangeError
from ditto_spu.plan.cost_report import ZERO, CostReport, CostRow, Triple
from ditto_spu.plan.kept import Kept
from ditto_spu.plan.p_error import total_p_error
from ditto_spu.plan.plan import Input, Plan, SpuStep, Step, Var, kind
from ditto_spu.runtime.blas_threads import shared_processors
from ditto_spu.runtime.checked_mode import Checker
from ditto_spu.runtime.executor import Member, StepRecord, executing, prepare
from ditto_spu.runtime.material import Material, Sizes
from ditto_spu.runtime.precompute import (
    NOTHING_HELD,
    Held,
    RandomBytes,
    client_key,
    key_seed,
    precompute,
    random_bytes,
)
from ditto_spu.spu.party import create_links
from ditto_spu.spu.steps import SpuLog, SpuSteps, compile_steps


@dataclass(frozen=True)
class Simulation:
    """The outputs, in the order of the plan's, and what they cost; those to keep are handles."""

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
    held: Held = NOTHING_HELD,
    keep: Collection[int] = (),
) -> Simulation:
    """Share `values` (one per plan input), run the plan at three parties, join the outputs.

    seed: makes keys and shares reproducible and the run INSECURE; None draws both from the system.
    checked: joins every value inside the simulator and raises RangeError for the first that is out of range.
    progress: called with (steps done, steps in all) by one party.
    material: from `precompute` for this plan; spent by this call. With masked shares it is made if missing.
    held: shares that serve many calls, from `hold`; the values at these places are not read.
    keep: places of outputs that stay in shares. A value may be such a handle of an earlier run.
    """
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
    reporter = 0 if plan.mask_dealer is None else (plan.mask_dealer + 1) % 3  # a party that is not away
    if material is not None:
        material.take(plan.hash(), held.token)
    with ExitStack() as stack:
        log = None
        spu: list[SpuSteps | None] = [None] * 3
        links = create_links(timeout) if programs else None
        if programs:
            log = SpuLog()
            stack.callback(log.close)

        def program(party: Party, link: MemLink) -> ShareProtocol[tuple[list[list[Any]], list[StepRecord]]]:
            if links is not None:
                spu[party.rank] = SpuSteps(links[party.rank], programs, profile=True)

            def observe(_: int, number: int, step: Step, results: Sequence[Any]) -> None:
                if checker is not None:
                    checker.observe(party.rank, number, step, results)
                if progress is not None and party.rank == reporter:
                    progress(number + 1, len(plan.steps))

            mine = [each[party.rank] for each in shared]
            known = None
            if material is not None:
                party = in_phase(party, "online")
                known = material.known if party.rank == plan.mask_dealer else None
            member = Member(party, mine, known)
            return executing(plan, [member], link, spu[party.rank], observe, keep)

        with_material: dict[str, Any] = (
            {} if material is None else {"keys": material.keys, "dealt": material.dealt}
        )
        stack.enter_context(shared_processors())
        started = time.perf_counter()
        if programs:  # SPU's runtimes wait for each other, each in a thread of its own
            results, _ = run_three(
                lambda party, link: run(link, program(party, link)),
                seed=key_seed(seed),
                timeout=timeout,
                **with_material,
            )
        else:
            results, _ = run_in_turns(program, seed=key_seed(seed), **with_material)
        seconds = time.perf_counter() - started
        costs = log.costs() if log is not None else {}
    outputs: list[NDArray[Any] | Kept] = []
    for place, var in enumerate(plan.outputs):
        parts = [results[rank][0][0][place] for rank in range(3)]
        stays = place in keep and isinstance(parts[0], Rss)  # a public one is known anyway
        info = plan.vars[var]
        outputs.append(
            Kept(info.path or f"output {place}", info.dtype, parts) if stays else join_output(info, parts)
        )
    records = [records for _, records in results]
    return Simulation(outputs, cost_report(plan, records, costs, seconds, material))


def hold(
    plan: Plan, values: Sequence[Any], places: Sequence[int], seed: int | None = None
) -> dict[int, Sequence[Any]]:
    """Shares of the secret inputs at these places, which may serve any number of requests."""
    source = random_bytes(client_key(None if seed is None else seed + 1))
    shared: dict[int, Sequence[Any]] = {}
    for place in places:
        entry = plan.inputs[place]
        parts = share_input(plan, entry, values[place], source)
        shared[place] = [part.kept() if isinstance(part, Rss) else Known(part) for part in parts]
    return shared


def share_input(
    plan: Plan, entry: Input, value: Any, source: RandomBytes
) -> Sequence[Rss] | Sequence[NDArray[Any]]:
    """The three parties' parts of one input: shares of a secret one, a public one as it is."""
    if isinstance(value, jax.ShapeDtypeStruct):
        raise InputError(
            f"'{entry.path}' cannot be shared: of it, or of what it is made of, only the shape is given; "
            "pass arrays, or hold the arguments that parties have already"
        )
    var, dealer = plan.vars[entry.var], plan.mask_dealer or 0
    if isinstance(value, Kept):
        return _kept(plan, entry, value)
    array = np.asarray(value)
    if tuple(array.shape) != var.shape:
        raise InputError(f"argument '{entry.path}' has shape {array.shape}, but was compiled for {var.shape}")
    if var.fxp is None:
        return [array] * 3
    if var.fxp.fraction_bits == 0 and not np.issubdtype(np.dtype(var.dtype), np.floating):
        return share(array.astype(np.int64), var.fxp, source, dealer)
    try:
        return share(encode(array, var.fxp), var.fxp, source, dealer)
    except ValueError as error:
        raise RangeError(
            f"secret argument '{entry.path}': {error}; scale it, or choose a wider format by a rule for its "
            "path"
        ) from None


def _kept(plan: Plan, entry: Input, value: Kept) -> Sequence[Rss]:
    """The shares behind a handle, if the plan takes them as they are."""
    var = plan.vars[entry.var]
    if value.shape != var.shape or value.fxp != var.fxp:
        raise InputError(
            f"argument '{entry.path}' was compiled for {var}, but '{value.path}' stays in shares as "
            f"{value.fxp}[{','.join(map(str, value.shape))}]"
        )
    return value.parts()


def _plain_inputs(plan: Plan, values: Sequence[Any]) -> dict[int, NDArray[Any]]:
    """The inputs as the parties hold them, rounded to their formats: kernels' bounds presume it."""
    plain = {}
    for entry, value in zip(plan.inputs, values, strict=True):
        fxp = plan.vars[entry.var].fxp
        if isinstance(value, Kept):
            plain[entry.var] = decode(reconstruct(value.parts()), value.fxp)
            continue
        shared = fxp is not None and fxp.fraction_bits > 0
        plain[entry.var] = decode(encode(value, fxp), fxp) if fxp and shared else np.asarray(value)
    return plain


def join_output(var: Var, parts: Sequence[Any]) -> NDArray[Any]:
    """An output from the parties' masked 3-of-3 parts."""
    if not isinstance(parts[0], Rss):
        return np.asarray(parts[0])
    # Stacked: numpy would widen the sum of scalars instead of wrapping it.
    total = np.sum(np.stack([part.mine for part in parts]), axis=0, dtype=parts[0].fxp.dtype)
    dtype = np.dtype(var.dtype) if var.dtype != "bfloat16" else np.dtype(np.float32)
    if np.issubdtype(dtype, np.floating):
        return np.asarray(decode(total, parts[0].fxp), dtype)
    return np.asarray(total, dtype)


class Offline(Protocol):
    """What a report needs to know of material: what each party dealt, and how long it took."""

    @property
    def sizes(self) -> tuple[Sizes, Sizes, Sizes]: ...

    @property
    def seconds(self) -> float: ...


def cost_report(
    plan: Plan,
    records: Sequence[Sequence[StepRecord]],
    spu_costs: dict[int, tuple[tuple[int, ...], tuple[int, ...]]],
    seconds: float,
    material: Offline | None,
) -> CostReport:
    """A row a step, from what each party recorded."""
    rows = []
    by_step = [{each.step: each for each in record} for record in records]
    stages = {number: place for place, stage in enumerate(plan.stages) for number in stage}
    for number, step in enumerate(plan.steps):
        away = StepRecord(number, stages[number], Traffic(), 0.0)  # a dealer that has worked ahead
        each = [record.get(number, away) for record in by_step]
        dealt = [(0, 0)] * 3 if material is None else [sizes.get(number, (0, 0)) for sizes in material.sizes]
        row = CostRow(
            step=number,
            path=step.path,
            kind=kind(step),
            format=", ".join(dict.fromkeys(str(plan.vars[var].fxp or "public") for var in step.outputs)),
            stage=stages[number],
            online_bytes=_triple([r.traffic.bytes_sent for r in each]),
            offline_bytes=_triple([r.traffic.offline_bytes + d[0] for r, d in zip(each, dealt, strict=True)]),
            messages=_triple(
                [
                    r.traffic.messages + r.traffic.offline_messages + d[1]
                    for r, d in zip(each, dealt, strict=True)
                ]
            ),
            rounds=max(r.traffic.rounds for r in each),
            seconds=max(r.seconds for r in each),
        )
        if isinstance(step, SpuStep):
            sent, messages = spu_costs.get(number, (ZERO, ZERO))
            known = "measured" if number in spu_costs else "unknown"
            row = replace(
                row, online_bytes=_triple(sent), messages=_triple(messages), rounds=None, source=known
            )
        rows.append(row)
    ahead = 0.0 if material is None else material.seconds
    return CostReport(tuple(rows), seconds, ahead, total_p_error(plan))


def _triple(values: Sequence[int]) -> Triple:
    return (values[0], values[1], values[2])
