"""Tests a party's ports with malformed bytes, messages and plans.

The party accepts none of them, does not crash or hang, and serves on.
"""

import collections
import random
import threading

import jax
import numpy as np
import pytest

from bench import malformed
from ditto_spu import connect, secure
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.cluster.party.server import PartyServer
from ditto_spu.plan.codec import encode_plan
from tests.cluster.conftest import Trial, plan_checker

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)


@secure
def small(x):
    """Compute a local step and a GeLU."""
    return jax.nn.gelu(x * 0.5 + 1.0)


PLAN = small.lower(X).plan
DATA = encode_plan(PLAN)


class Target:
    """Runs three parties in this process. Party 2 also serves metrics."""

    def __init__(self, trial: Trial, tls: bool) -> None:
        if not tls:
            trial.file.write_text("tls = false\n" + trial.file.read_text())
        self.file, self.cluster = trial.file, load_cluster(trial.file)
        for rank in range(3):
            trial.servers.append(
                PartyServer(self.cluster, rank, ("127.0.0.1", 0) if rank == 2 else None, plan_checker())
            )
            trial.servers[-1].start()
        self.servers = trial.servers
        self.address = self.cluster.addresses[malformed.VICTIM]
        self.metrics = ("127.0.0.1", trial.servers[2].metrics_port)
        self.frames = malformed.frames(DATA, PLAN.hash())

    def hello(self, rng):
        """Return a hello with a wrong fact or changed bytes."""
        name = rng.choice(("alice", "party0", "party1"))
        what = {"name": name, "session": "0" * 32, "facts": malformed.facts(self.cluster)}
        if rng.randrange(2):
            return malformed.mutated(rng, malformed.pack("hello", 0, what))
        key = rng.choice(sorted(what))
        return malformed.pack("hello", 0, what | {key: rng.choice(malformed.JUNK)})

    def works(self):
        with connect(self.file, "bob") as client:
            expected = np.asarray(jax.nn.gelu(X * 0.5 + 1.0))
            assert client.run(small, X).outputs == pytest.approx(expected, abs=0.01)


def plans(target, rng, count):
    """Send `count` malformed plans in one session, which refusals do not end."""
    with connect(target.file, "alice") as client:
        client._parties.open()
        channel = client._parties._channels[malformed.VICTIM]
        for _ in range(count):
            data = malformed.spoilt_plan(rng, DATA)
            channel.send("plan", {}, [("plan", np.frombuffer(data, np.uint8))])
            answer = channel.receive(malformed.PATIENCE)
            if answer.kind != "error":
                yield f"'{answer.kind}' for {data[:2000]!r}"
            else:
                yield None


def wrong_requests(target, rng, count):
    """Send `count` wrong requests in one session, each to all three parties alike."""
    with connect(target.file, "alice") as client:
        client._parties.open()
        client._register(PLAN)
        for _ in range(count):
            kind, facts = malformed.junk_facts(rng, PLAN.hash())
            for channel in client._parties._channels:
                channel.send(kind, facts)
            answers = [channel.receive(malformed.PATIENCE) for channel in client._parties._channels]
            wrong = [each.kind for each in answers if each.kind != "error" or each.facts["over"]]
            yield f"{wrong} for {facts}" if wrong else None


def cases(target, rng, tls, scale):
    """Yield (kind of case, wrong reaction or None) for each case.

    With TLS there are 24 cases per unit of `scale`, and in plaintext 80.
    """
    for _ in range(15 * scale):
        yield "bytes of strangers", malformed.raw_bytes(target.address, malformed.foreign(rng))
    for _ in range((2 if tls else 10) * scale):
        yield (
            "frames of clients",
            malformed.client_frame(target.cluster, malformed.mutated(rng, rng.choice(target.frames))),
        )
    for _ in range((2 if tls else 10) * scale):
        yield "frames of parties", malformed.peer_frame(target.cluster, rng)
    for _ in range(5 * scale):
        data = rng.choice(
            (b"", b"GET ", b"GET /metrics ", b"POST /metrics HTTP/1.1\r\n\r\n")
        ) + rng.randbytes(50)
        yield "bytes at the metrics port", malformed.http_bytes(target.metrics, data)
    if not tls:
        for _ in range(15 * scale):
            yield "hellos", malformed.raw_bytes(target.address, target.hello(rng))
        for wrong in plans(target, rng, 20 * scale):
            yield "plans", wrong
        for wrong in wrong_requests(target, rng, 5 * scale):
            yield "requests", wrong


def attack(trial, tls, scale, seed, eventually):
    target, rng = Target(trial, tls), random.Random(seed)
    target.works()
    eventually(lambda: not any(server._sessions for server in target.servers))
    threads, counts = threading.active_count(), collections.Counter()
    for what, wrong in cases(target, rng, tls, scale):
        assert wrong is None, (seed, what, counts[what], wrong)
        counts[what] += 1
    target.works()
    eventually(lambda: not any(server._sessions or server._meetings.waiting for server in target.servers))
    eventually(lambda: threading.active_count() <= threads)
    print(f"{'TLS' if tls else 'plaintext'}: {sum(counts.values())} cases, {dict(counts)}")
    return counts


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])
def test_some_hundred_cases(trial, eventually, tls):
    counts = attack(trial, tls, 3, random.randrange(1 << 32), eventually)
    assert sum(counts.values()) == (72 if tls else 240)


@pytest.mark.slow
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plaintext"])
def test_ten_thousand_cases(trial, eventually, tls):
    counts = attack(trial, tls, 97, random.randrange(1 << 32), eventually)
    assert sum(counts.values()) == (24 * 97 if tls else 80 * 97)
