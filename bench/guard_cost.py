"""Measure what the guard costs on a cluster of three processes, in paired requests with it and without.

Run `python -m bench.guard_cost --model bert-base-layer --config ditto --network LAN --pairs 20`. It prints
bytes and rounds, the medians of the seconds at the parties, the median of the ratios of pairs, and the ratio
of the fastest requests, which depends least on what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics

from ditto_spu import secure
from ditto_spu.cluster.local_parties import local_parties
from ditto_spu.models import named_model
from ditto_spu.network.model import LOOPBACK, parse_network
from ditto_spu.plan.cost_report import CostReport


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bert-base-layer")
    parser.add_argument("--config", default="ditto")
    parser.add_argument("--network", default="loopback")
    parser.add_argument("--pairs", type=int, default=10)
    asked = parser.parse_args()
    network = LOOPBACK if asked.network == "loopback" else parse_network(asked.network)
    program = named_model(asked.model).program()
    functions = [
        secure(program.fn, config=asked.config, guard=guard, **program.options).hold(**program.held)
        for guard in (False, True)
    ]
    seconds: list[list[float]] = [[], []]
    reports: list[CostReport] = []
    with local_parties(network) as parties, parties.connect() as client:
        for function in functions:  # these requests compile and upload weights, and do not count
            reports.append(client.run(function, *program.inputs).report)
        for pair in range(asked.pairs):
            for guard in (0, 1) if pair % 2 else (1, 0):
                client.run(functions[guard], *program.inputs)
                seconds[guard].append(parties.seconds())
    without, with_guard = (_bytes(report) for report in reports)
    print(f"bytes {without:,} and {with_guard:,}: {with_guard / without - 1:+.2%}")
    print(f"rounds {reports[0].rounds} and {reports[1].rounds}")
    medians = [statistics.median(each) for each in seconds]
    pairs = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    fastest = min(seconds[1]) / min(seconds[0])
    print(
        f"seconds {medians[0]:.3f} and {medians[1]:.3f}: pairs {pairs - 1:+.1%}, fastest {fastest - 1:+.1%}"
    )


def _bytes(report: CostReport) -> int:
    return sum(report.bytes_sent_per_party)


if __name__ == "__main__":
    main()
