"""Tests that clients are served while another one, with a certificate, does what it can against them."""

import contextlib
import copy
import json
import random
import socket
import threading
import time

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.errors import ClusterError, DittoError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.runtime.simulate import simulate
from tests.cluster.conftest import plan_checker
from tests.cluster.party.test_hostile_plans import HOSTILE, LIMITS, local

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
W = np.linspace(-1, 1, 16).reshape(4, 4).astype(np.float32)
SECONDS = 30.0


@secure
def layer(w, x):
    """Compute a layer with GeLU."""
    return jax.nn.gelu(x @ w)


PLAN = layer.lower(W, X).plan
NUMBERS = (
    -1,
    0,
    1,
    7,
    1 << 15,
    1 << 31,
    1 << 40,
    10**30,
    0.5,
    "fxp64.63",
    "fxp8.7",
    None,
    True,
    [],
    [1 << 20],
)


def send_plan(client, data):
    client._parties.ask("plan", {}, [("plan", np.frombuffer(data, np.uint8))], "planned")


def hostile_plans(file, rng):
    """Send plans that crash or fill a parser or a compiler."""
    with connect(file, "bob") as bob:
        bob._session(lambda: None)
        for text, _ in rng.sample(list(HOSTILE.values()), 4):
            with contextlib.suppress(DittoError):
                send_plan(bob, encode_plan(local(text)))


def with_hostile_numbers(rng):
    """Return a plan of a valid structure, in which some values are others."""
    table = json.loads(encode_plan(PLAN))
    for _ in range(rng.randrange(1, 4)):
        node, key = table, rng.choice(("vars", "steps", "steps", "stages", "outputs"))
        while isinstance(node[key], list | dict) and node[key]:
            node = node[key]
            key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node[key] = copy.copy(rng.choice(NUMBERS))
    return json.dumps(table).encode()


def hostile_numbers(file, rng):
    """Send plans of a valid structure with other numbers, and run those that pass."""
    with connect(file, "bob") as bob:
        bob._session(lambda: None)
        for _ in range(10):
            with contextlib.suppress(DittoError):
                send_plan(bob, with_hostile_numbers(rng))


def many_sessions(file, rng):
    """Open as many sessions as there may be, and leave them open for a while."""
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(connect(file, "bob"))
            with contextlib.suppress(DittoError):
                client._parties.open()
        time.sleep(1)


def uploads_that_never_come(file, rng):
    """Announce weights, and requests, and send nothing."""
    with connect(file, "bob") as bob, contextlib.suppress(DittoError):
        bob._session(lambda: bob._register(PLAN))
        facts = {"name": f"bob/{rng.randrange(99)}", "plan": PLAN.hash(), "places": [0], "users": ["alice"]}
        bob._parties.ask("hold", facts | {"token": "t", "replace": True, "lasting": True}, (), "ready")
        time.sleep(1)


def many_requests(file, rng):
    """Ask for much, one request after another."""
    with connect(file, "bob") as bob, contextlib.suppress(DittoError):
        for _ in range(5):
            bob.run_many(layer, [(W, X)] * 32)
            bob.precompute(layer, W, X)


def silent_connections(file, rng):
    """Occupy the places of those who have not proven their identity."""
    sockets = []
    for address in load_cluster(file).addresses:
        for _ in range(40):
            with contextlib.suppress(OSError):
                sockets.append(socket.create_connection(address, 1))
    time.sleep(1)
    for each in sockets:
        each.close()


ATTACKS = (
    hostile_plans,
    hostile_numbers,
    many_sessions,
    uploads_that_never_come,
    many_requests,
    silent_connections,
)


def memory(process):
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def serve_others(trial, seconds, attacks):
    """Let alice ask while bob attacks. Returns the seconds of her requests, and how often bob attacked."""
    done, count, took = threading.Event(), [], []
    expected = np.asarray(jax.nn.gelu(X @ W))

    def attack(what, seed):
        rng = random.Random(seed)
        while not done.is_set():
            with contextlib.suppress(DittoError, LinkError, OSError):
                what(trial.file, rng)
            count.append(what)

    threads = [threading.Thread(target=attack, args=(each, seed)) for seed, each in enumerate(attacks)]
    for each in threads:
        each.start()
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            with connect(trial.file, "alice") as alice:
                for _ in range(5):
                    started = time.monotonic()
                    assert alice.run(layer, W, X).outputs == pytest.approx(expected, abs=0.02)
                    took.append(time.monotonic() - started)
    finally:
        done.set()
        for each in threads:
            each.join()
    return took, count


@pytest.mark.slow
def test_others_are_served_during_every_attack(trial):
    trial.start(0, 1, 2)
    serve_others(trial, 3.0, ())
    before = [memory(trial.processes[rank]) for rank in range(3)]
    took, count = serve_others(trial, SECONDS, ATTACKS)
    assert len(took) >= 5 and set(count) == set(ATTACKS)
    for rank in range(3):
        assert trial.processes[rank].poll() is None, trial.log(rank).read_text()[-2000:]
        assert memory(trial.processes[rank]) - before[rank] < 1 << 30


@pytest.mark.slow
def test_plans_with_hostile_numbers_are_refused_or_run_in_bounded_time():
    """Each plan is checked as a party does it. Those that pass run in the simulator, or are refused there."""
    rng, passed = random.Random(3), 0
    for _ in range(10_000):
        data = with_hostile_numbers(rng)
        try:
            checked = plan_checker().check("bob", data, LIMITS, 20.0)
        except ClusterError as error:
            assert "ended early" not in str(error), data
            continue
        passed += 1
        assert checked.need.bytes < 1 << 24 and checked.need.work < 10**9, data
        with contextlib.suppress(DittoError):
            simulate(checked.plan, [np.zeros(plan_input.shape) for plan_input in inputs_of(checked.plan)])
    assert 0 < passed < 10_000


def inputs_of(plan):
    return [plan.vars[each.var] for each in plan.inputs]
