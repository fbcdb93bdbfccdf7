"""Tests outputs that stay in shares at a cluster's parties: who reads them, and when they are forgotten."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu import connect, secure
from ditto_spu.cluster.party.kept_values import KeptValues
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.errors import ClusterError, InputError, PartyError
from ditto_spu.plan.kept import Kept

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
SHAPE = jax.ShapeDtypeStruct(W.shape, W.dtype)


def first(w: Any, x: Any) -> Any:
    h = x @ w
    return {"seen": h.sum(), "state": {"h": h, "x": x}}


def second(w: Any, state: Any) -> Any:
    return state["h"] @ w.T + state["x"], state


make = secure(first).hold(w=W)
take = secure(second).hold_with(make)
EXPECTED = X @ W @ W.T + X


def near(outputs: Any, expected: Any = EXPECTED) -> bool:
    return bool(np.max(np.abs(outputs - expected)) < 0.01)


def kept_bytes(trial: Any) -> list[int]:
    return [server._shared.kept_bytes.used for server in trial.servers]


@pytest.fixture
def alice(parties: Any) -> Iterator[Any]:
    with connect(parties.file, "alice") as client:
        yield client
        for each in client.weights():
            client.drop(each.name)


def state_of(client: Any, **options: Any) -> Any:
    return client.run(make, X, keep=("state",), **options).outputs["state"]


def test_a_handle_goes_from_one_request_to_another_functions_and_serves_again(alice: Any) -> None:
    result = alice.run(make, X, keep=("state",))
    assert abs(result.outputs["seen"] - (X @ W).sum()) < 0.01
    state = result.outputs["state"]
    assert isinstance(state["h"], ditto.Kept)
    assert "at the parties of a cluster" in repr(state["h"])
    for _ in range(2):
        assert near(alice.run(take, state).outputs[0])
    again = alice.run(take, state, keep=(1,)).outputs[1]  # what stays may stay once more
    assert near(alice.run(take, again).outputs[0])
    assert len(alice.weights()) == 1  # one upload serves both functions
    with pytest.raises(InputError, match="stays in shares and cannot be read"):
        np.asarray(state["h"])


def test_both_ends_of_material_and_batches_take_handles(alice: Any) -> None:
    state = state_of(alice)
    material = alice.precompute(take, state)
    assert near(alice.run(take, state, material=material).outputs[0])
    made = alice.run_many(make, [(X,), (-X,)], keep=("state",)).outputs
    done = alice.run_many(take, [(each["state"],) for each in made], keep=(1,)).outputs
    assert near(done[0][0]) and near(done[1][0], -EXPECTED)
    assert near(alice.run(take, done[1][1]).outputs[0], -EXPECTED)
    with pytest.raises(InputError, match="handles of kept outputs for the same arguments"):
        alice.run_many(take, [(done[0][1],), ({"h": X, "x": done[1][1]["x"]},)])


def test_shares_are_forgotten_with_their_handles_and_with_the_session(parties: Any, eventually: Any) -> None:
    with connect(parties.file, "alice") as client:
        state = state_of(client)
        one = kept_bytes(parties)[0]
        assert one > 0 and kept_bytes(parties) == [one] * 3
        other = state_of(client)
        assert kept_bytes(parties) == [2 * one] * 3
        state["h"].release()
        with pytest.raises(InputError, match="were released: run again what made them"):
            client.run(take, state)
        del state
        gc.collect()
        assert near(client.run(take, other).outputs[0])  # the parties hear of it with the next request
        assert kept_bytes(parties) == [one] * 3
    eventually(lambda: kept_bytes(parties) == [0] * 3)
    with connect(parties.file, "alice") as client:
        client.run(make, X)
        with pytest.raises(InputError, match="in a session that has ended"):
            client.run(take, other)


def test_a_request_that_fails_keeps_nothing(alice: Any, parties: Any) -> None:
    wide = secure(lambda x: (x * x, x + 1), config={"default": "fxp32.14"}, guard=True)
    with pytest.raises(ditto.DittoError):
        alice.run(wide, np.full(4, 600.0, np.float32), keep=(1,))
    gc.collect()
    alice.run(make, X)
    assert kept_bytes(parties) == [0] * 3


def test_nobody_else_reads_a_kept_output(alice: Any, parties: Any) -> None:
    state = state_of(alice)
    with connect(parties.file, "bob") as bob, connect(parties.file, "alice") as other:
        for client in (bob, other):
            client.run(make, X)
            with pytest.raises(InputError, match="only the session that made it reads it"):
                client.run(take, state)
            for each in jax.tree_util.tree_leaves(state):  # a client with other software
                each._session = client._parties.session
            with pytest.raises(ClusterError, match=r"kept output .* is of another session"):
                client.run(take, state)
            for each in jax.tree_util.tree_leaves(state):
                each._session = alice._parties.session
    assert near(alice.run(take, state).outputs[0])


def test_handles_of_other_kinds_are_refused(alice: Any) -> None:
    here = make.run(X, keep=("state",)).outputs["state"]
    with pytest.raises(InputError, match="are not at the parties of this cluster"):
        alice.run(take, here)
    with pytest.raises(InputError, match=r"are not in this process .*at the parties of a cluster"):
        take.run(state_of(alice))
    with pytest.raises(InputError, match=r"not at the parties of this cluster \(not made yet"):
        alice.run(take, make.call(X).described(("state",))["state"])
    with pytest.raises(InputError, match="keep names 'stat'"):
        alice.run(make, X, keep=("stat",))
    masked = secure(first, masked=True).hold(w=W)
    with pytest.raises(ClusterError, match="masked shares belong to one request"):
        alice.run(masked, X, keep=("state",))


def test_what_a_request_says_of_kept_outputs_is_checked(alice: Any) -> None:
    state = state_of(alice)
    call = take.call(state)
    plan = call.lowered.plan
    name = state["h"].name_in(alice._parties.session)
    h = next(place for place in call.kept if plan.inputs[place].path.endswith("h"))
    sound = {"plan": plan.hash(), "weights": None, "places": [], "count": 1, "keep": [], "kept": []}
    alice._session(lambda: alice._register(plan))
    for facts, reason in (
        ({"kept": [[h, [name]]]}, "weights, kept outputs and inputs together"),
        ({"kept": [[h, [name]], [h, [name]]]}, "not distinct"),
        ({"kept": [[h, [name, name]]]}, "a name for each member"),
        ({"kept": [[h, ["x"]]]}, "kept output 'x' is of another session"),
        ({"kept": [[h, [7]]]}, "kept output '7' is of another session"),
        ({"kept": {}}, "a place each"),
        ({"keep": [len(plan.outputs) - 1]}, "not distinct secret outputs"),  # the guard's own output
        ({"keep": ["0"]}, "not distinct secret outputs"),
        ({"forget": "all"}, "a list of names"),
    ):
        with pytest.raises(ClusterError, match=reason):
            alice._parties.ask("run", sound | facts, (), "ready")
    other = secure(lambda y: y + y, config={"default": "fxp32.9"}).call(X)
    alice._session(lambda: alice._register(other.lowered.plan))
    facts = sound | {"plan": other.lowered.plan.hash(), "kept": [[0, [name]]]}
    with pytest.raises(ClusterError, match="is not as the plan declares it"):
        alice._parties.ask("run", facts, (), "ready")
    assert near(alice.run(take, state).outputs[0])


def test_an_owner_decides_that_outputs_stay_in_shares(alice: Any, parties: Any) -> None:
    call = alice.upload(make, X, name="model", users=["bob"], keep=("state",))
    described = call.described(("state",))["state"]
    served = alice.upload(take, described, name="model", add=True, keep=(1,))
    facts = {"plan": served.lowered.plan.hash(), "weights": "alice/model", "count": 1}
    facts |= {"places": list(served.kept), "keep": sorted(served.places((1,)))}  # what the user makes up
    (held,) = alice.weights()
    assert len(held.plans) == 2 and held.complete
    with pytest.raises(InputError, match="leave `users` out"):
        alice.upload(take, described, name="model", add=True, users=["bob"])
    blind, also = (secure(each).hold(w=SHAPE) for each in (first, second))
    with connect(parties.file, "bob") as bob:
        state = bob.run(blind, X, weights="alice/model", keep=("state",)).outputs["state"]
        done = bob.run(also, state, weights="alice/model", keep=(1,)).outputs
        assert near(done[0])
        assert near(bob.run(also, done[1], weights="alice/model", keep=(1,)).outputs[0])
        with pytest.raises(ClusterError, match="has to stay in shares"):
            bob.run(blind, X, weights="alice/model")
        with pytest.raises(ClusterError, match="only plans of the same weights read them"):
            bob.run(secure(lambda state: state["h"] * 3), state)
        with pytest.raises(ClusterError, match="has to be a kept output"):
            bob._parties.ask("run", facts, (), "ready")
    alice.drop("model")


def values(clock: list[float], total: int = 1000, count: int = 10) -> KeptValues:
    quotas = (Quota("bytes", "kept_mb", total, total), Quota("kept outputs", "kept", count, count))
    return KeptValues("alice", "session", *quotas, 60.0, lambda: clock[0])


def test_kept_outputs_expire_and_their_room_comes_back() -> None:
    clock = [0.0]
    kept = values(clock, count=3)
    part = Rss(np.zeros(10, np.int32), np.zeros(10, np.int32), Fxp(32, 12))
    with kept.room([80, 80]):
        used, unused = kept.add(1, [[part], [part]], {0: None})
    for clock[0] in (50.0, 100.0):
        assert kept.find(used).part.shape == (10,)
    with pytest.raises(ClusterError, match=r"any more: .*read it for 60 s \(`kept` in \[timeouts\]\)"):
        kept.find(unused)
    assert (kept._bytes.used, kept._count.used) == (80, 1)
    with pytest.raises(ClusterError, match="`kept` and `share` in"), kept.room([80] * 3):
        pass
    with pytest.raises(ClusterError, match="`kept_mb` and `share` in"), kept.room([921]):
        pass
    with contextlib.suppress(RuntimeError), kept.room([80, 80]):
        raise RuntimeError
    kept.forget([used, used, "session.9.0.0", 7])
    kept.clear()
    assert (kept._bytes.used, kept._count.used) == (0, 0)


def test_a_client_keeps_as_much_as_its_limit_says(trial: Any) -> None:
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nkept_mb = 1\nkept = 6\n")
    trial.serve()
    grow = secure(lambda x: (x.sum(), x + 1), guard=False)
    with connect(trial.file, "alice") as alice, connect(trial.file, "bob") as bob:
        large = np.zeros((1 << 15) - 1, np.float32)  # 16 bytes an element at one party
        found = alice.run(grow, large, keep=(1,)).outputs
        with pytest.raises(ClusterError, match=r"'alice' has .* bytes of kept outputs .*`kept_mb`"):
            alice.run(grow, large, keep=(1,))
        small = [bob.run(grow, X, keep=(1,)).outputs for _ in range(3)]
        with pytest.raises(ClusterError, match="'bob' has 3 kept outputs and wants 1 more"):
            bob.run(grow, X, keep=(1,))
        del small[0]
        bob.run(grow, X, keep=(1,))
        found[1].release()
        assert isinstance(alice.run(grow, large, keep=(1,)).outputs[1], Kept)


def test_no_stream_serves_two_requests_on_one_kept_output(parties: Any, monkeypatch: Any) -> None:
    drawn: list[set[Any]] = []
    draw = Randomness.draw

    def noted(self: Any, component: int, label: str, *rest: Any) -> Any:
        drawn[-1].add((self._keys.rank, self._keys.mine, self._prefix, component, label))
        return draw(self, component, label, *rest)

    with connect(parties.file, "alice") as client:
        state = state_of(client)
        client.run(take, state)
        monkeypatch.setattr(Randomness, "draw", noted)
        for _ in range(3):
            drawn.append(set())
            client.run(take, state, keep=(1,))
    assert all(drawn) and len(set.union(*drawn)) == sum(map(len, drawn))


def test_a_party_that_fails_ends_what_it_kept_and_the_next_session_works(parties: Any) -> None:
    with connect(parties.file, "alice") as client, connect(parties.file, "bob") as bob:
        state, other = state_of(client), state_of(bob)
        parties.servers[1]._sessions[client._parties.session].close()
        with pytest.raises(PartyError, match=r"closed|lost"):
            client.run(take, state)
        with pytest.raises(InputError, match="in a session that has ended"):
            client.run(take, state)
        assert near(client.run(take, state_of(client)).outputs[0])
        assert near(bob.run(take, other).outputs[0])


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[2])
from tests.cluster.test_kept import connect, state_of
client = connect(sys.argv[1], "bob")
state = state_of(client)
print("kept", flush=True)
time.sleep(600)
"""


def test_a_client_that_is_killed_frees_what_it_kept(parties: Any, eventually: Any) -> None:
    root = str(Path(__file__).parents[2])
    bob = subprocess.Popen([sys.executable, "-c", SCRIPT, str(parties.file), root], stdout=subprocess.PIPE)
    try:
        assert bob.stdout is not None and bob.stdout.readline() == b"kept\n"
        assert min(kept_bytes(parties)) > 0
    finally:
        bob.kill()
        bob.communicate()
    eventually(lambda: kept_bytes(parties) == [0] * 3)
