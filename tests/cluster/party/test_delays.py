"""Tests that clients take turns by the time they had, and that those wait who cost a party time in vain."""

import threading
from contextlib import ExitStack

import jax
import numpy as np
import pytest

from bench.hostile_plans import HOSTILE, local
from ditto_spu import connect, secure
from ditto_spu.cluster.party.delays import Delays
from ditto_spu.cluster.party.line import Line
from ditto_spu.errors import ClusterError
from ditto_spu.plan.codec import encode_plan

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)


class Clock:
    """Shows a time that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def order(clock, had, waiting):
    """Let clients have so many seconds each, and then wait. Returns the order of their turns."""
    line, turns, threads = Line(1, 1, clock), [], []
    for client, seconds in had:
        with line.turn(client, 1e9, lambda: None):
            clock.now += seconds

    def wait(client):
        with line.turn(client, 1e9, lambda: None):
            turns.append(client)

    with line.turn("nobody", 1e9, lambda: None):
        for number, client in enumerate(waiting):
            threads.append(threading.Thread(target=wait, args=(client,)))
            threads[-1].start()
            while line.waiting <= number:
                pass
    for each in threads:
        each.join()
    assert (line.active, line.waiting) == (0, 0)
    return "".join(turns)


def test_the_client_that_had_the_least_time_lately_is_next():
    assert order(Clock(), [("a", 5.0), ("b", 1.0), ("b", 1.0), ("b", 1.0)], "abc") == "cba"
    assert order(Clock(), [("a", 2.0), ("b", 1.0), ("c", 600.0), ("d", 300.0)], "dcab") == "bacd"
    assert order(Clock(), [("a", 2.0), ("c", 600.0), ("b", 1.0)], "ab") == "ab"  # the time of a is long ago


def test_a_client_of_which_more_may_go_on_leaves_room_to_others():
    line = Line(3, 2, Clock())
    with ExitStack() as stack:
        for client in "aab":
            stack.enter_context(line.turn(client, 1.0, lambda: None))
        assert line.active == 3


def test_a_client_waits_that_owes_more_than_a_second():
    clock = Clock()
    delays = Delays(clock, clock.sleep)
    for _ in range(8):
        delays.charge("bob", 0.125)
    delays.wait("bob")
    assert clock.now == 1000.0  # so much is free
    delays.charge("bob", 0.5)
    delays.wait("alice")
    assert clock.now == 1000.0
    delays.wait("bob")
    assert clock.now == pytest.approx(1000.5)
    delays.require("bob")
    delays.charge("bob", 60.0)
    with pytest.raises(ClusterError, match=r"plans of 'bob' were refused .* its next one in 60 s"):
        delays.require("bob")
    delays.wait("bob")
    assert clock.now == pytest.approx(1002.5)
    clock.now += 58.0
    delays.require("bob")
    delays.charge("bob", 0.9)
    delays.wait("bob")  # what was paid is forgotten
    assert clock.now == pytest.approx(1060.5 + 0.9)


def test_refused_plans_and_requests_are_charged_to_their_client(parties, monkeypatch):
    charged, charge = [], Delays.charge
    monkeypatch.setattr(
        Delays, "charge", lambda self, who, much: charged.append((who, much)) or charge(self, who, much)
    )
    square = secure(lambda x: x * x)
    with connect(parties.file, "alice") as alice, connect(parties.file, "bob") as bob:
        assert alice.run(square, X).outputs == pytest.approx(X * X, abs=0.01)
        assert charged == [("alice", 0.1)] * 3  # for the session
        del charged[:]
        bob._session(lambda: None)
        data = np.frombuffer(encode_plan(local(HOSTILE["calls in a circle"][0])), np.uint8)
        for _ in range(2):
            with pytest.raises(ClusterError, match="calls itself"):
                bob._parties.ask("plan", {}, [("plan", data)], "planned")
        with pytest.raises(ClusterError, match="no weights"):
            bob.run(square.hold(x=jax.ShapeDtypeStruct(X.shape, X.dtype)), weights="alice/x")
    assert {who for who, _ in charged} == {"bob"}
    amounts = sorted(much for _, much in charged)
    assert amounts[:11] == [0.1] * 11 and amounts[11] > 0.1  # the parties here share one check of the plan
    assert len(amounts) == 12
