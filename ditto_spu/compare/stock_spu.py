"""Run a whole program on stock SPU, by three threads or three processes.

The result includes time, bytes and memory.
"""

from __future__ import annotations

import json
import pickle
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError, PartyError
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.network.process import HOSTS, emulated, free_addresses
from ditto_spu.spu.compile import compile_program
from ditto_spu.spu.party import Link, SpuParty, create_links
from ditto_spu.spu.profile import ExecutionCost, OpCost, log_to, read_costs
from ditto_spu.spu.values import Shared, reconstruct, share

# PUMA's setting. PUMA's own exponential inside softmax is written out; this setting is for any other one.
TAYLOR_ITERS = 5
# This is longer than any single op of a large model takes.
TIMEOUT = 900.0


@dataclass(frozen=True)
class StockResult:
    """Outputs and cost of a run. Tuples are in the order of ranks.

    seconds: online time of the slowest party, without compiling and sharing.
    peak_memory_bytes: with threads, that of the process, including whatever ran before. With processes, that
        of all three together.
    """

    outputs: Any
    seconds: float
    bytes_sent_per_party: tuple[int, ...]
    messages_per_party: tuple[int, ...]
    peak_memory_bytes: int
    ops: tuple[OpCost, ...]

    def with_outputs(self, outputs: Any) -> StockResult:
        """Return the same costs with the outputs in another form."""
        return replace(self, outputs=outputs)


@dataclass(frozen=True)
class _Party:
    """The outputs and the time of one party."""

    rank: int
    outputs: list[Shared]
    seconds: float


def run_stock(
    text: str,
    arrays: Sequence[Any],
    public: Sequence[bool],
    mode: str = "threads",
    network: Network = LOOPBACK,
) -> StockResult:
    """Run a module on three parties.

    public: which arguments are public.
    mode: "threads" of this process, or "processes".
    network: the network between the processes. It is emulated unless it is loopback.

    Raises InputError for another mode, and PartyError if a process fails.
    """
    if mode not in ("threads", "processes"):
        raise InputError(f"mode '{mode}' is unknown: choose threads or processes")
    program = compile_program(text, public, "peer", stock=True)
    inputs: list[list[Any]] = [[], [], []]
    for array, shown in zip(arrays, public, strict=True):
        parts = (np.asarray(array),) * 3 if shown else share(np.asarray(array))
        for rank, part in enumerate(parts):
            inputs[rank].append(part)
    with tempfile.TemporaryDirectory(prefix="ditto-stock-") as folder:
        if mode == "threads":
            parties, costs, peak = _in_threads(Path(folder), program, inputs)
        else:
            parties, costs, peak = _in_processes(Path(folder), program, inputs, network)
    outputs = [reconstruct(parts) for parts in zip(*(party.outputs for party in parties), strict=True)]
    return StockResult(
        outputs,
        max(party.seconds for party in parties),
        tuple(sum(each) for each in zip(*(cost.bytes_sent for cost in costs), strict=True)),
        tuple(sum(each) for each in zip(*(cost.messages for cost in costs), strict=True)),
        peak,
        costs[0].ops,
    )


def run_party(link: Link, program: bytes, inputs: Sequence[Shared | NDArray[Any]]) -> _Party:
    """Run one party, timed from the moment when all three are ready."""
    party = SpuParty(link, profile=True, taylor_iters=TAYLOR_ITERS)
    link.barrier()
    started = time.perf_counter()
    outputs = party.run(program, inputs)
    return _Party(link.rank, outputs, time.perf_counter() - started)


def _in_threads(
    folder: Path, program: bytes, inputs: Sequence[Sequence[Any]]
) -> tuple[list[_Party], list[ExecutionCost], int]:
    log_to(folder / "spu.log")
    done: queue.SimpleQueue[_Party | BaseException] = queue.SimpleQueue()

    def work(link: Link) -> None:
        try:
            done.put(run_party(link, program, inputs[link.rank]))
        except BaseException as error:
            done.put(error)

    for link in create_links(TIMEOUT):
        # The threads are daemons: when one party fails, the others wait for it until the timeout, but the
        # caller need not.
        threading.Thread(target=work, args=(link,), daemon=True).start()
    parties = []
    for _ in range(3):
        result = done.get()
        if isinstance(result, BaseException):
            raise result
        parties.append(result)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return sorted(parties, key=lambda party: party.rank), read_costs(folder / "spu.log"), peak


def _in_processes(
    folder: Path, program: bytes, inputs: Sequence[Sequence[Any]], network: Network
) -> tuple[list[_Party], list[ExecutionCost], int]:
    for rank in range(3):
        # With plain tuples of arrays, only numpy's types are unpickled.
        values = [tuple(each) if isinstance(each, Shared) else each for each in inputs[rank]]
        (folder / f"in{rank}").write_bytes(pickle.dumps((program, values)))
    with emulated(network, free_addresses(3)) as reached:
        _run_processes(folder, [reached[host] for host in HOSTS])
    parties, costs, peak = [], [], 0
    for rank in range(3):
        outputs, seconds = pickle.loads((folder / f"out{rank}").read_bytes())
        parties.append(_Party(rank, [Shared(*each) for each in outputs], seconds))
        peak += json.loads((folder / f"peak{rank}").read_text())
        costs.append(read_costs(folder / f"spu{rank}.log", parties=1))
    joined = [
        ExecutionCost(
            same[0].name,
            max(each.seconds for each in same),
            tuple(each.bytes_sent[0] for each in same),
            tuple(each.messages[0] for each in same),
            same[0].ops,
        )
        for same in zip(*costs, strict=True)
    ]
    return parties, joined, peak


def _run_processes(folder: Path, addresses: Sequence[Sequence[str]]) -> None:
    """Start one process per party and wait for them. Each reaches all three at its own list of addresses."""
    command = [sys.executable, "-m", "ditto_spu.compare.stock_spu_process", str(folder)]
    errors = [(folder / f"error{rank}").open("wb") for rank in range(3)]
    started = [
        subprocess.Popen(
            [*command, *addresses[rank], str(rank)], stdout=subprocess.DEVNULL, stderr=errors[rank]
        )
        for rank in range(3)
    ]
    try:
        _wait(started, folder)
    finally:
        for process in started:
            process.kill()
            process.wait()
        for file in errors:
            file.close()


def _wait(processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    """Return when all processes have ended well, and raise PartyError as soon as one has not."""
    while True:
        codes = [process.poll() for process in processes]
        for rank, code in enumerate(codes):
            if code:
                last = (folder / f"error{rank}").read_text(errors="replace").strip().splitlines()[-1:]
                raise PartyError(f"the process of party {rank} ended with code {code}: {' '.join(last)}")
        if all(code == 0 for code in codes):
            return
        time.sleep(0.05)
