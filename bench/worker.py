"""Run one side of a benchmark in its own process; answer `warm`, `run` and `report` in JSON."""

from __future__ import annotations

import json
import resource
import sys
from contextlib import ExitStack
from typing import Any

from bench.exactness import exactness
from bench.mpcformer.side import Mpcformer
from bench.processes import OursInProcesses, PumaInProcesses
from bench.sides import ANSWER, split_side
from ditto_kernels.values.replicated import PARTIES
from ditto_spu import secure
from ditto_spu.compare.puma import run_directly, run_puma
from ditto_spu.models import Program, named_model
from ditto_spu.network.model import parse_network
from ditto_spu.plan.cost_report import CostReport, Triple


class Ours:
    """Three simulated parties as threads, which hold the weights.

    Modes other than `whole` run the offline phase first and time it apart.
    """

    def __init__(self, program: Program, side: str) -> None:
        config, mode = split_side(side)
        self._program, self._ahead = program, mode != "whole"
        options = {**program.options, "masked": mode == "masked"}
        function = secure(program.fn, config=config, check=False, **options)
        self._secure = function.hold(**program.held)
        self._turns = PARTIES if mode == "masked" else 1  # requests that differ in their dealer
        self._reports: list[CostReport] = []
        self._outputs: Any = None

    def warm(self) -> dict[str, Any]:
        return [self.run() for _ in range(self._turns)][-1]

    def run(self) -> dict[str, Any]:
        inputs = self._program.inputs
        material = self._secure.precompute(*inputs) if self._ahead else None
        result = self._secure.run(*inputs, material=material)
        self._outputs, report = result.outputs, result.report
        self._reports = [*self._reports, report][-self._turns :]
        return {"seconds": report.offline_seconds + report.seconds, "online_seconds": report.seconds}

    def report(self) -> dict[str, Any]:
        """Return the row's figures.

        Bytes and messages are those of one request, on average over the turns.
        """
        last = self._reports
        return {
            "bytes_sent_per_party": _mean([each.bytes_sent_per_party for each in last]),
            "offline_bytes_sent_per_party": _mean([each.offline_bytes_sent_per_party for each in last]),
            "messages_per_party": _mean([each.messages_per_party for each in last]),
            "rounds": last[-1].rounds,
            "peak_memory_bytes": _peak_memory(),
            **exactness(self._program, self._outputs),
        }


def _mean(triples: list[Triple]) -> Triple:
    a, b, c = (sum(each) // len(triples) for each in zip(*triples, strict=True))
    return (a, b, c)


class Puma:
    """Stock SPU, timed as threads, like ours.

    The bytes of every party come from one run in three processes.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._result: Any = None
        self._peak = 0

    def _run(self, mode: str) -> Any:
        return run_puma(self._program.fn, self._program.args, public=self._program.public, mode=mode)

    def warm(self) -> dict[str, Any]:
        return {}  # SPU interprets, so compilation is not part of `seconds`

    def run(self) -> dict[str, Any]:
        self._result = self._run("threads")
        self._peak = max(self._peak, self._result.peak_memory_bytes)
        return {"seconds": self._result.seconds}

    def report(self) -> dict[str, Any]:
        counted = self._run("processes")
        return {
            "bytes_sent_per_party": counted.bytes_sent_per_party,
            "offline_bytes_sent_per_party": (0, 0, 0),
            "messages_per_party": counted.messages_per_party,
            "rounds": None,
            "peak_memory_bytes": self._peak,
            **exactness(self._program, self._result.outputs),
        }


class Directly(Puma):
    """Stock SPU, which runs the program as it is."""

    def _run(self, mode: str) -> Any:
        return run_directly(self._program.fn, self._program.args, public=self._program.public, mode=mode)


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(case: str, side: str, network: str = "") -> None:
    """Answer commands until standard input ends. With a network, the parties are processes."""
    program = named_model(case).build()
    with ExitStack() as stack:
        worker: Any
        if network:
            between = parse_network(network)
            worker = (
                PumaInProcesses(program, between)
                if side == "puma"
                else stack.enter_context(OursInProcesses(program, side, between))
            )
        else:
            baselines = {"puma": Puma, "spu": Directly, "mpcformer": Mpcformer}
            worker = baselines[side](program) if side in baselines else Ours(program, side)
        for line in sys.stdin:
            answer = {"warm": worker.warm, "run": worker.run, "report": worker.report}[line.strip()]()
            print(ANSWER + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
