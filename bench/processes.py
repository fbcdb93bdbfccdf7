"""Run the sides of a benchmark as three processes, over loopback or an emulated network."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bench.exactness import exactness
from ditto_spu import secure
from ditto_spu.cluster.local_parties import local_parties
from ditto_spu.compare.puma import run_puma
from ditto_spu.models import Program
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.plan.cost_report import CostReport


class OursInProcesses:
    """Three parties over TLS that hold the weights.

    Each turn also runs the same program as threads of this process. `seconds` is the time of the slowest
    party, without the client's part. `request_seconds` includes the client's part.
    """

    def __init__(self, program: Program, side: str, network: Network) -> None:
        self._program, self._network = program, network
        self._secure = secure(program.fn, config=side, network=network, **program.options).hold(
            **program.held
        )
        self._stack = ExitStack()
        self._parties = self._stack.enter_context(local_parties(network))
        self._client = self._stack.enter_context(self._parties.connect())
        self._threads: list[CostReport] = []
        self._outputs: Any = None
        self._report: Any = None

    def __enter__(self) -> OursInProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def warm(self) -> dict[str, Any]:
        run = self.run()
        self._threads.clear()
        return run

    def run(self) -> dict[str, Any]:
        inputs = self._program.inputs
        self._threads.append(self._secure.run(*inputs).report)
        result = self._client.run(self._secure, *inputs)
        self._outputs, self._report = result.outputs, result.report
        return {
            "seconds": self._parties.seconds(),
            "request_seconds": result.report.seconds,
            "threads_seconds": self._threads[-1].seconds,
        }

    def report(self) -> dict[str, Any]:
        alone = replace(self._report, seconds=statistics.median(each.seconds for each in self._threads))
        real = self._network is not LOOPBACK
        return {
            "predicted_seconds": alone.predicted_seconds(self._network) if real else None,
            "bytes_sent_per_party": self._report.bytes_sent_per_party,
            "messages_per_party": self._report.messages_per_party,
            "rounds": self._report.rounds,
            "peak_memory_bytes": self._parties.peak_memory_bytes(),
            **exactness(self._program, self._outputs),
        }


class PumaInProcesses:
    """Stock SPU over its own link, without TLS.

    A run starts three processes, but `seconds` leaves the start out.
    """

    def __init__(self, program: Program, network: Network) -> None:
        self._program, self._network = program, network
        self._result: Any = None

    def warm(self) -> dict[str, Any]:
        return {}  # SPU interprets, so compilation is not part of `seconds`

    def run(self) -> dict[str, Any]:
        program = self._program
        self._result = run_puma(
            program.fn, program.args, public=program.public, mode="processes", network=self._network
        )
        return {"seconds": self._result.seconds}

    def report(self) -> dict[str, Any]:
        return {
            "bytes_sent_per_party": self._result.bytes_sent_per_party,
            "messages_per_party": self._result.messages_per_party,
            "rounds": None,
            "peak_memory_bytes": self._result.peak_memory_bytes,
            **exactness(self._program, self._result.outputs),
        }
