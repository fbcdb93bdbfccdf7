"""Run the MPCFormer side of a benchmark: start and ask the processes on CrypTen, for the side's worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.mpcformer import ANSWER
from bench.mpcformer.encoder import Plain, encode
from ditto_spu.compare.table import accuracy
from ditto_spu.errors import InputError, PartyError
from ditto_spu.models import Program

CASES = ("bert-base-layer", "bert-base")
ENVIRONMENT = Path(__file__).parents[2] / ".venv-mpcformer"
PROCESSES = 3  # two parties and their dealer
# These were the fastest settings of several on two cores, which threads that spin while they wait take from
# each other.
THREADS = 2
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
NOTE = (
    "two parties and a dealer on CrypTen; bytes and messages of [party 0, party 1, dealer]; "
    "errors against Quad and 2Quad in float, on the same undistilled weights"
)


def check(case: str) -> None:
    """Raise InputError for a case that is not a BERT encoder, and on a machine without the environment."""
    if case not in CASES:
        raise InputError(f"the mpcformer baseline runs {' and '.join(CASES)}, not '{case}'")
    if not (ENVIRONMENT / ".ready").exists():
        raise InputError(
            "the mpcformer baseline needs torch and CrypTen in an environment of their own: "
            "run `make bench-mpcformer-env` first"
        )


class Mpcformer:
    """Two parties with shares of the weights, and their dealer, in processes that talk over loopback."""

    def __init__(self, program: Program) -> None:
        from flax.traverse_util import flatten_dict

        params, hidden = program.args
        self._weights = {name: np.asarray(each) for name, each in flatten_dict(params, sep="/").items()}
        (self._hidden,) = np.asarray(hidden)
        self._folder = tempfile.TemporaryDirectory(prefix="ditto-mpcformer-")
        self._processes: list[subprocess.Popen[str]] = []
        self._runs: list[dict[str, Any]] = []

    def warm(self) -> dict[str, Any]:
        """Share the weights and the input, and run once."""
        folder = Path(self._folder.name)
        np.savez(folder / "weights.npz", **self._weights)
        np.save(folder / "hidden.npy", self._hidden)
        command = [str(ENVIRONMENT / "bin" / "python"), "-m", "bench.mpcformer.party", str(folder)]
        for rank in range(PROCESSES):
            self._processes.append(
                subprocess.Popen(
                    [*command, str(rank), str(THREADS)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ENVIRONMENT.parent,
                    env=os.environ | WAITING,
                )
            )
        return self.run()

    def run(self) -> dict[str, Any]:
        self._runs = self._ask("run")
        return {"seconds": max(run["seconds"] for run in self._runs)}

    def report(self) -> dict[str, Any]:
        versions = self._ask("report")[0]["versions"]
        expected = encode(
            {name: each.astype(np.float64) for name, each in self._weights.items()}, self._hidden, Plain()
        )
        return {
            **traffic(self._runs),
            "peak_memory_bytes": sum(_peak_memory(process.pid) for process in self._processes),
            **accuracy([np.load(Path(self._folder.name) / "output.npy")], [expected]),
            "versions": versions,
            "note": NOTE,
        }

    def _ask(self, command: str) -> list[dict[str, Any]]:
        """Return both parties' answers to a command.

        The parties end when their standard input ends, and the dealer ends with party 0.
        """
        parties = self._processes[:2]
        for process in parties:
            assert process.stdin is not None
            process.stdin.write(command + "\n")
            process.stdin.flush()
        return [self._answer(rank, process) for rank, process in enumerate(parties)]

    def _answer(self, rank: int, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ANSWER):
                answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return answer
        raise PartyError(f"party {rank} of the mpcformer baseline ended with exit code {process.wait()}")


def traffic(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a row's counts from the counts of both parties.

    Openings count as online, and all traffic to and from the dealer as offline. Each product asks the dealer
    once, in two messages, and then opens its masked operands in one round.
    """
    units = ("bytes", "messages")
    online = {unit: [*(run[unit]["opened"] for run in runs), 0] for unit in units}
    offline = {
        unit: [*(run[unit]["asked"] for run in runs), sum(run[unit]["dealt"] for run in runs)]
        for unit in units
    }
    sent = {unit: [sum(each) for each in zip(online[unit], offline[unit], strict=True)] for unit in units}
    return {
        "bytes_sent_per_party": sent["bytes"],
        "offline_bytes_sent_per_party": offline["bytes"],
        "messages_per_party": sent["messages"],
        "rounds": offline["messages"][0] // 2,
    }


def _peak_memory(pid: int) -> int:
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kilobytes) * 1024
