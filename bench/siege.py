"""Serve clients of a cluster with and without a hostile one, and compare.

`python -m bench.siege` starts three parties. Seven clients ask them for a small model, while an eighth client
does all of `bench.attacks` at once, in a process of its own that is stopped in every other phase. It prints
whether every answer was right, the times with and without it, and the memory of the parties.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from bench.attacks import ATTACKS, HOSTILE_CLIENT, VICTIM, W, X, attack, layer, together
from bench.phases import Served, alternate, print_phases
from bench.soak import party_processes, resident
from ditto_spu import connect
from ditto_spu.cluster.client.client import ClusterClient

CLIENTS = ("owner", "one", "two", "three", "four", "five", "six")
TOLERANCE = 0.02
# An operator sets limits as small as the models allow. The others are the defaults.
LIMITS = "\n[timeouts]\nconnect = 60\nrequest = 60\n[limits]\nsessions = 16\nrunning = 2\nrequest_mb = 256\n"


def serve(file: Path, clients: tuple[str, ...], seconds: float, pause: float) -> Served:
    """Let clients ask for the model on the owner's weights for so many seconds, with pauses in between."""
    served = Served([], 0, Counter())
    wrong: list[int] = []
    end = time.monotonic() + seconds
    expected = np.asarray(jax.nn.gelu(X @ W))
    blind = layer.hold(w=jax.ShapeDtypeStruct(W.shape, W.dtype))

    def ask(client: ClusterClient) -> None:
        started = time.monotonic()
        try:
            outputs = client.run(blind, X, weights=VICTIM).outputs
        except Exception as error:  # every error counts
            served.errors[f"{type(error).__name__}: {str(error)[:200]}"] += 1
            return
        if np.abs(outputs - expected).max() < TOLERANCE:
            served.seconds.append(time.monotonic() - started)
        else:
            wrong.append(1)

    def work(name: str) -> None:
        while time.monotonic() < end:
            with connect(file, name) as client:
                for _ in range(20):
                    if time.monotonic() < end:
                        ask(client)
                        time.sleep(pause)

    together([lambda name=name: work(name) for name in clients])
    return Served(served.seconds, len(wrong), served.errors)


def print_memory(pids: Sequence[int], before: Sequence[int]) -> None:
    """Print how the memory of parties has grown. Raises AssertionError if one has died."""
    for rank, (pid, size) in enumerate(zip(pids, before, strict=True)):
        growth = (resident(pid) - size) / 1e6
        print(f"party {rank}: runs, {size / 1e6:.0f} MB before and {growth:+.0f} MB")


def main() -> None:
    """Start parties and clients, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="under attack, and as long without")
    parser.add_argument("--phase", type=float, default=20.0, help="seconds of one phase")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two requests of a client")
    parser.add_argument("--nice", type=int, default=0, help="of the attacker, who shares this machine")
    parser.add_argument("--attack", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("ditto_spu.cluster").setLevel(logging.ERROR)
    if options.attack is not None:
        os.nice(options.nice)
        counts = attack(options.attack, ATTACKS, sys.stdin.read)
        print(", ".join(f"{name} {count}" for name, count in counts.items()))
        return
    with party_processes([*CLIENTS, HOSTILE_CLIENT], LIMITS) as (file, pids):
        with connect(file, "owner") as owner:
            owner.upload(layer.hold(w=W), X, name=VICTIM, users=CLIENTS)
        serve(file, CLIENTS, 10.0, options.pause)
        before = [resident(pid) for pid in pids]
        command = [sys.executable, "-m", "bench.siege", "--attack", str(file), "--nice", str(options.nice)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hostile:
            time.sleep(10.0)  # it has started
            phases = itertools.count(1)
            alone, beside = alternate(
                hostile,
                lambda seconds: serve(file, CLIENTS, seconds, options.pause),
                pids,
                (options.phase, options.phase),
                lambda: next(phases) * options.phase >= options.seconds,
            )
            attacks, _ = hostile.communicate("")
        print_phases(alone, beside)
        print("attacks:", attacks.strip())
        print_memory(pids, before)


if __name__ == "__main__":
    main()
