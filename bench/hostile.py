"""Send parties hostile plans and messages, and see how another client is served meanwhile.

`python -m bench.hostile` starts three parties. A client asks them for a small model. Others send every
program of `bench.hostile_plans`, thousands of plans of a valid structure with wild numbers, and messages
with wild bytes. Plans that pass are run. The senders are stopped in every other phase. It prints the
client's times with and without them, and the memory of the parties.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.attacks import (
    PLAN,
    VICTIM,
    W,
    X,
    layer,
    parties_of,
    refusals,
    run_with_zeros,
    send_plan,
    send_spoilt,
    together,
)
from bench.hostile_plans import HOSTILE, local, on_spu, public, with_hostile_numbers
from bench.malformed import frames
from bench.phases import Phases, alternate, print_phases
from bench.siege import LIMITS, print_memory, serve
from bench.soak import party_processes, resident
from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect
from ditto_spu.cluster.client.client import ClusterClient
from ditto_spu.errors import ClusterError, DittoError, PartyError
from ditto_spu.plan.codec import decode_plan, encode_plan

HOSTILE_CLIENTS = ("mallory", "trudy", "oscar", "eve", "sybil", "chuck", "craig")
_EACH = 50  # plans of one session
# By a part of the reason: what became of a plan.
_REASONS = {"ended early": "plans whose check died", "its next one in": "plans that came too soon"}
_PAUSE = 0.1  # seconds between two requests
_PHASES = 8.0, 24.0  # seconds without the senders, and beside them


def plans(count: int, rng: random.Random) -> Iterator[bytes]:
    """Yield every hostile program in every kind of step, and then `count` plans with wild numbers."""
    for text, _ in HOSTILE.values():
        for kind in (local, public, on_spu):
            yield encode_plan(kind(text))
    for _ in range(count):
        yield with_hostile_numbers(PLAN, rng)


def send(client: ClusterClient, data: bytes) -> str:
    """Send a plan, and run it if it passes. Returns what became of it."""
    try:
        parties = parties_of(client)
        send_plan(parties, data)
    except PartyError:
        return "plans that ended their session"
    except ClusterError as error:
        found = [what for part, what in _REASONS.items() if part in str(error)]
        return found[0] if found else "plans refused"
    try:
        client._session(lambda: run_with_zeros(parties, decode_plan(data)))
    except (DittoError, LinkError):
        return "plans that failed"
    return "plans run"


def send_plans(file: Path, name: str, data: Iterator[bytes], outcomes: Counter[str]) -> None:
    """Send plans of an iterator that several threads share, until it ends."""
    while True:
        with connect(file, name) as client:
            for _ in range(_EACH):
                each = next(data, None)
                if each is None:
                    return
                outcomes[send(client, each)] += 1


def send_messages(file: Path, name: str, count: int, rng: random.Random, outcomes: Counter[str]) -> None:
    """Send malformed messages, each in a session of its own."""
    sound = frames(encode_plan(PLAN), PLAN.hash())
    for _ in range(count):
        with refusals(), connect(file, name) as client:
            send_spoilt(client, sound, rng)
        outcomes["messages"] += 1


class Shared:
    """An iterator that threads may share, and that ends after so many seconds at the latest."""

    def __init__(self, items: Iterator[bytes], seconds: float) -> None:
        self._items, self._lock = items, threading.Lock()
        self._end = time.monotonic() + seconds

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._lock:
            if time.monotonic() > self._end:
                raise StopIteration
            return next(self._items)


def send_all(file: Path, plan_count: int, message_count: int, seconds: float) -> Counter[str]:
    """Send everything, from several clients at once. Returns what became of it.

    seconds: after which no more plans are sent.
    """
    outcomes, rng = Counter[str](), random.Random(1)
    data = Shared(plans(plan_count, random.Random(0)), seconds)
    first, *others = HOSTILE_CLIENTS
    senders = [lambda name=name: send_plans(file, name, data, outcomes) for name in others]
    together([lambda: send_messages(file, first, message_count, rng, outcomes), *senders])
    return outcomes


def under_fire(
    file: Path, pids: Sequence[int], plan_count: int, message_count: int, seconds: float, nice: int = 0
) -> tuple[Phases, Phases, dict[str, int]]:
    """Let a process send everything while the owner asks, and stop it in every other phase.

    Returns what the owner got without it and beside it, and what was sent.
    """
    command = [sys.executable, "-m", "bench.hostile", "--send", str(file), "--plans", str(plan_count)]
    command += ["--messages", str(message_count), "--seconds", str(seconds), "--nice", str(nice)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hostile:
        alone, beside = alternate(
            hostile,
            lambda seconds: serve(file, ("owner",), seconds, _PAUSE),
            pids,
            _PHASES,
            lambda: hostile.poll() is not None,
        )
        outcomes: dict[str, int] = json.loads(hostile.communicate()[0])
    return alone, beside, outcomes


def main() -> None:
    """Start parties and clients, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=7200.0, help="after which no more plans are sent")
    parser.add_argument("--nice", type=int, default=0, help="of the senders, who share this machine")
    parser.add_argument("--send", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("ditto_spu.cluster").setLevel(logging.ERROR)
    amount = options.plans, options.messages, options.seconds
    if options.send is not None:
        os.nice(options.nice)
        print(json.dumps(send_all(options.send, *amount)))
        return
    with party_processes(["owner", *HOSTILE_CLIENTS], LIMITS) as (file, pids):
        with connect(file, "owner") as owner:
            owner.upload(layer.hold(w=W), X, name=VICTIM)
        serve(file, ("owner",), 5.0, _PAUSE)
        before, started = [resident(pid) for pid in pids], time.monotonic()
        alone, beside, outcomes = under_fire(file, pids, *amount, options.nice)
        print(f"{time.monotonic() - started:.0f} s")
        print_phases(alone, beside)
        print("sent:", ", ".join(f"{count} {what}" for what, count in outcomes.items()))
        print_memory(pids, before)


if __name__ == "__main__":
    main()
