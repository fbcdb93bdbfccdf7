"""Measures a function on three processes over an emulated network, and compares with the prediction."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Group
from rich.text import Text

from ditto_spu.api import SecureFunction
from ditto_spu.cluster.local_parties import local_parties
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.plan.cost_report import CostReport


@dataclass(frozen=True)
class Measured:
    """Holds the measurements of one function on one network. Seconds are medians over the requests.

    report: the report of the last request, as its client saw it.
    seconds: from the first step until the slowest party holds its outputs.
    request_seconds: the client's whole wait, its own link included.
    threads_seconds: the same function, run by three threads of one process.
    predicted_seconds: the report's prediction from `threads_seconds`; None on loopback.
    """

    report: CostReport
    seconds: float
    request_seconds: float
    threads_seconds: float
    predicted_seconds: float | None

    def as_dicts(self) -> dict[str, Any]:
        """Return plain data for JSON: the report and the measurements."""
        return self.report.as_dicts() | {
            "seconds": self.seconds,
            "request_seconds": self.request_seconds,
            "threads_seconds": self.threads_seconds,
            "predicted_seconds": self.predicted_seconds,
        }

    def __rich__(self) -> Group:
        name = LOOPBACK.name if self.report.network is None else self.report.network.name
        lines = [
            f"{name}: {self.seconds:.3f} s at the parties, {self.request_seconds:.3f} s at the client; "
            f"{self.threads_seconds:.3f} s by three threads"
        ]
        if self.predicted_seconds is not None:
            lines.append(
                f"predicted {self.predicted_seconds:.3f} s; measured / predicted "
                f"{self.seconds / self.predicted_seconds:.2f}"
            )
        return Group(self.report, *map(Text, lines))


def measure(function: SecureFunction, inputs: Sequence[Any], network: Network, repeat: int = 3) -> Measured:
    """Run a function between three processes of this machine over TLS, and measure `repeat` requests.

    One request that is not measured comes first.

    function: may have held arguments, which are uploaded once.
    network: is emulated between the processes. On LOOPBACK there is no relay and no prediction.
    """
    threads, seconds, requests = [], [], []
    function = function.with_network(network)
    function = function.with_guard(function.call(*inputs).lowered.plan.guard is not None)  # also in threads
    function.run(*inputs)
    with local_parties(network) as parties, parties.connect() as client:
        client.run(function, *inputs)
        for _ in range(repeat):
            simulated = function.run(*inputs).report
            report = client.run(function, *inputs).report
            threads.append(simulated.seconds)
            seconds.append(parties.seconds())
            requests.append(report.seconds)
    alone = replace(simulated, seconds=statistics.median(threads))
    real = network is not LOOPBACK
    return Measured(
        replace(report, network=network) if real else report,
        statistics.median(seconds),
        statistics.median(requests),
        alone.seconds,
        alone.predicted_seconds(network) if real else None,
    )
