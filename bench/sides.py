"""Drive one worker process per side, turn by turn, and gather medians."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ditto_spu.errors import InputError, PartyError
from ditto_spu.network.model import parse_network

ANSWER = "bench-answer "  # starts an answer; a worker's other output, such as warnings, is ignored


MODES = ("whole", "ahead", "masked")


def split_side(side: str) -> tuple[str, str]:
    """Return (configuration, mode) of one of our sides: `ditto`, `ditto:ahead`, `ditto:masked`."""
    config, _, mode = (
        side.rpartition(":") if side.endswith(tuple(f":{mode}" for mode in MODES)) else (side, "", "")
    )
    return config, mode or "whole"


def sides_of(configs: Sequence[str], modes: Sequence[str]) -> list[str]:
    """Return our sides: every configuration in every mode. Raises InputError for an unknown mode."""
    for mode in modes:
        if mode not in MODES:
            raise InputError(f"there is no mode '{mode}': choose {', '.join(MODES)}")
    return [name if mode == "whole" else f"{name}:{mode}" for name in configs for mode in modes]


class Worker:
    """One side in its own process. It compiles and warms up once, then runs on command."""

    def __init__(self, case: str, side: str, network: str | None = None) -> None:
        self._name = f"{case}, {side}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", case, side, *([] if network is None else [network])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises PartyError if the worker has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return answer
        raise PartyError(f"the worker for {self._name} ended with exit code {self._process.wait()}")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def measure(
    case: str, sides: list[str], repeat: int, say: Callable[[str], None], network: str | None = None
) -> list[dict[str, Any]]:
    """Return one row per side. The sides take turns, so that a noisy moment of the machine meets them all.

    network: the network between three processes per side, as `parse_network` reads it. If None, parties are
        threads.
    """
    workers: dict[str, Worker] = {}
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    try:
        for side in sides:
            say(f"{case}: {side}: compile and warm up")
            workers[side] = Worker(case, side, network)
            workers[side].ask("warm")
        for turn in range(repeat):
            for side in sides:
                runs[side].append(workers[side].ask("run"))
                say(f"{case}: {side}: run {turn + 1} of {repeat}: {runs[side][-1]['seconds']:.3f} s")
        rows = []
        for side in sides:
            medians = {key: statistics.median(run[key] for run in runs[side]) for key in runs[side][0]}
            where = {} if network is None else {"network": parse_network(network).name}
            rows.append({"case": case, "config": side} | where | medians | workers[side].ask("report"))
            rows[-1]["seconds_all"] = [run["seconds"] for run in runs[side]]
        return rows
    finally:
        for worker in workers.values():
            worker.close()
