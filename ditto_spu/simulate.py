"""Three simulated parties in one process, and the client that shares inputs and joins outputs."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ditto_kernels.link import MemLink
from ditto_kernels.local import run_three
from ditto_kernels.party import Party
from ditto_kernels.prg import KEY_BYTES
from ditto_kernels.ring import decode, encode
from ditto_kernels.rss import Rss, share
from ditto_spu.checked import Checker
from ditto_spu.errors import InputError, RangeError
from ditto_spu.executor import StepRecord, execute
from ditto_spu.plan import Input, Plan, SpuStep, Step, Var, kind
from ditto_spu.report import ZERO, CostReport, CostRow, Triple
from ditto_spu.spu_backend import create_links
from ditto_spu.spu_steps import SpuLog, SpuSteps, compile_steps

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True)
class Simulation:
    """The outputs, in the order of the plan's, and what they cost."""

    outputs: list[NDArray[Any]]
    report: CostReport


def simulate(
    plan: Plan,
    values: Sequence[Any],
    *,
    seed: int | None = None,
    checked: bool = False,
    progress: Callable[[int, int], None] | None = None,
    timeout: float = 300.0,
) -> Simulation:
    """Share `values` (one per plan input), run the plan at three threads, join the outputs.

    seed: makes keys and shares reproducible and the run INSECURE; None draws both from the system.
    checked: joins every value inside the simulator and raises RangeError for the first that is out of range.
    progress: called with (steps done, steps in all) by party 0.
    """
    source = _random_bytes(seed)
    shared = [
        _share_input(entry, plan.vars[entry.var], value, source)
        for entry, value in zip(plan.inputs, values, strict=True)
    ]
    checker = Checker(plan, _plain_inputs(plan, values)) if checked else None
    programs = compile_steps(plan)
    with ExitStack() as stack:
        log = None
        spu: list[SpuSteps | None] = [None] * 3
        links = create_links(timeout) if programs else None
        if programs:
            log = SpuLog()
            stack.callback(log.close)

        def program(party: Party, link: MemLink) -> tuple[list[Any], list[StepRecord]]:
            if links is not None:
                spu[party.rank] = SpuSteps(links[party.rank], programs, profile=True)

            def observe(number: int, step: Step, results: Sequence[Any]) -> None:
                if checker is not None:
                    checker.observe(party.rank, number, step, results)
                if progress is not None and party.rank == 0:
                    progress(number + 1, len(plan.steps))

            mine = [each[party.rank] for each in shared]
            return execute(plan, party, link, mine, spu[party.rank], observe)

        started = time.perf_counter()
        results, _ = run_three(
            program, seed=None if seed is None else seed.to_bytes(16, "big", signed=True), timeout=timeout
        )
        seconds = time.perf_counter() - started
        costs = log.costs() if log is not None else {}
    outputs = [
        _join(plan.vars[var], [results[rank][0][place] for rank in range(3)])
        for place, var in enumerate(plan.outputs)
    ]
    return Simulation(outputs, _report(plan, [records for _, records in results], costs, seconds))


def _random_bytes(seed: int | None) -> RandomBytes:
    """The client's source for shares: an AES-128-CTR stream under a fresh key, as weights are gigabytes."""
    key = secrets.token_bytes(KEY_BYTES) if seed is None else random.Random(seed).randbytes(KEY_BYTES)
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return lambda count: stream.update(bytes(count))


def _share_input(
    entry: Input, var: Var, value: Any, source: RandomBytes
) -> Sequence[Rss] | Sequence[NDArray[Any]]:
    array = np.asarray(value)
    if tuple(array.shape) != var.shape:
        raise InputError(f"argument '{entry.path}' has shape {array.shape}, but was compiled for {var.shape}")
    if var.fxp is None:
        return [array] * 3
    if var.fxp.fraction_bits == 0 and not np.issubdtype(np.dtype(var.dtype), np.floating):
        return share(array.astype(np.int64), var.fxp, source)
    try:
        return share(encode(array, var.fxp), var.fxp, source)
    except ValueError as error:
        raise RangeError(
            f"secret argument '{entry.path}': {error}; scale it, or choose a wider format by a rule for its "
            "path"
        ) from None


def _plain_inputs(plan: Plan, values: Sequence[Any]) -> dict[int, NDArray[Any]]:
    """The inputs as the parties hold them, rounded to their formats: kernels' bounds presume it."""
    plain = {}
    for entry, value in zip(plan.inputs, values, strict=True):
        fxp = plan.vars[entry.var].fxp
        shared = fxp is not None and fxp.fraction_bits > 0
        plain[entry.var] = decode(encode(value, fxp), fxp) if fxp and shared else np.asarray(value)
    return plain


def _join(var: Var, parts: Sequence[Any]) -> NDArray[Any]:
    """An output from the parties' masked 3-of-3 parts."""
    if not isinstance(parts[0], Rss):
        return np.asarray(parts[0])
    # Stacked: numpy would widen the sum of scalars instead of wrapping it.
    total = np.sum(np.stack([part.mine for part in parts]), axis=0, dtype=parts[0].fxp.dtype)
    dtype = np.dtype(var.dtype) if var.dtype != "bfloat16" else np.dtype(np.float32)
    if np.issubdtype(dtype, np.floating):
        return np.asarray(decode(total, parts[0].fxp), dtype)
    return np.asarray(total, dtype)


def _report(
    plan: Plan,
    records: Sequence[Sequence[StepRecord]],
    spu_costs: dict[int, tuple[tuple[int, ...], tuple[int, ...]]],
    seconds: float,
) -> CostReport:
    rows = []
    by_step = [{each.step: each for each in record} for record in records]
    for number, step in enumerate(plan.steps):
        each = [record[number] for record in by_step]
        row = CostRow(
            step=number,
            path=step.path,
            kind=kind(step),
            format=", ".join(dict.fromkeys(str(plan.vars[var].fxp or "public") for var in step.outputs)),
            stage=each[0].stage,
            online_bytes=_triple([r.traffic.bytes_sent for r in each]),
            offline_bytes=_triple([r.traffic.offline_bytes for r in each]),
            messages=_triple([r.traffic.messages + r.traffic.offline_messages for r in each]),
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
    return CostReport(tuple(rows), seconds)


def _triple(values: Sequence[int]) -> Triple:
    return (values[0], values[1], values[2])
