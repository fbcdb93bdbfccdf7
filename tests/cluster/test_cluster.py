"""Tests clients and three parties over TLS: results, agreement and rights.

The parties are threads of this process.
"""

import contextlib
import logging
import secrets
import socket
import threading

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.cluster.net.agreement import difference, facts
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.cluster.net.connect import context, dial
from ditto_spu.cluster.party import session
from ditto_spu.errors import ClusterError, InputError, PartyError, RangeError
from ditto_spu.plan.codec import encode_plan
from ditto_spu.runtime import executor

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
W = np.linspace(-1, 1, 8).reshape(4, 2).astype(np.float32)


@secure(guard=False)
def layer(w, x):
    """Compute a linear layer with GeLU."""
    return {"y": jax.nn.gelu(x @ w), "sum": x.sum()}


def expected(w=W, x=X):
    return np.asarray(jax.nn.gelu(x @ w))


@pytest.fixture(scope="module")
def alice(parties):
    with connect(parties.file, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def bob(parties):
    with connect(parties.file, "bob") as client:
        yield client


def raw(parties, **changes):
    """Connect to party 0 as alice without a client, and send a hello with `changes`."""
    cluster = load_cluster(parties.file)
    made = dial(cluster, 0, context(cluster, "alice", server=False))
    hello = {"name": "alice", "session": secrets.token_hex(16), "facts": facts(cluster)}
    made.send("hello", hello | changes)
    return made


def errors(client, send) -> list[str]:
    """Call `send` with each party's channel, and return the reasons in the parties' error answers.

    Lost connections are ignored, because one party that fails ends the session at all three.
    """
    reasons = []
    with contextlib.suppress(LinkError):
        for channel in client._parties._channels:
            send(channel)
    for channel in client._parties._channels:
        with contextlib.suppress(LinkError):
            answer = channel.receive(10.0)
            assert answer.kind == "error"
            reasons.append(answer.facts["reason"])
    return reasons


def test_outputs_and_report_are_those_of_a_simulation(alice):
    result = alice.run(layer, W, X)
    simulated = layer.run(W, X)
    assert result.outputs["y"] == pytest.approx(expected(), abs=0.01)
    assert result.outputs["y"].dtype == np.float32
    assert float(result.outputs["sum"]) == pytest.approx(float(X.sum()), abs=0.01)
    assert result.report.bytes_sent_per_party == simulated.report.bytes_sent_per_party
    # Material is dealt behind the run, in one message a step.
    assert all(map(int.__le__, result.report.messages_per_party, simulated.report.messages_per_party))
    assert result.report.rounds == simulated.report.rounds


def test_public_arguments_and_outputs(alice):
    masked = secure(lambda x, mask: (x * mask, mask.sum()), public=("mask",))
    mask = np.float32([[1, 0, 1, 0]])
    product, total = alice.run(masked, X, mask).outputs
    assert product == pytest.approx(X * mask, abs=0.01)
    assert float(total) == 2.0


def test_one_owner_gives_weights_another_client_the_data(alice, bob):
    alice.upload(layer.hold(w=W), x=X, name="model", users=["bob"])
    blind = layer.hold(w=jax.ShapeDtypeStruct(W.shape, W.dtype))
    for x in (X, -X):
        assert bob.run(blind, x, weights="alice/model").outputs["y"] == pytest.approx(expected(x=x), abs=0.01)


def test_owners_need_their_own_arguments_alone(alice, bob):
    owners = {"w": "server", "x": "client"}
    owned = secure(lambda w, x: (jax.numpy.exp(x) @ (w @ w.T)).sum(0), owner=owners, guard=False)
    w, shapes = W[:4], [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (W[:4], X)]
    alice.upload(owned.hold(w=w), x=shapes[1], name="owned", users=["bob"])
    found = bob.run(owned.hold(w=shapes[0]), X, weights="alice/owned")
    assert found.outputs == pytest.approx((np.exp(X) @ (w @ w.T)).sum(0), abs=0.02)
    assert [row.kind for row in found.report.rows if row.rounds] == ["matmul"]
    with pytest.raises(InputError, match=r"cannot be shared.*only the shape"):
        bob.run(owned, shapes[0], X)


def test_held_arguments_are_uploaded_once(alice, monkeypatch):
    uploads = []
    upload = type(alice)._upload
    monkeypatch.setattr(type(alice), "_upload", lambda *a, **k: (uploads.append(a), upload(*a, **k)))
    function = layer.hold(w=W)
    for x in (X, -X):
        assert alice.run(function, x).outputs["y"] == pytest.approx(expected(x=x), abs=0.01)
    assert len(uploads) == 1
    assert alice.run(layer.hold(w=-W), X).outputs["y"] == pytest.approx(expected(-W), abs=0.01)
    assert len(uploads) == 2


def test_weights_serve_the_clients_and_the_plan_that_their_owner_chose(alice, bob):
    alice.upload(layer.hold(w=W), x=X, name="private")
    alice.upload(layer.hold(w=W), x=X, name="shared", users=["bob"])
    blind = layer.hold(w=jax.ShapeDtypeStruct(W.shape, W.dtype))
    with pytest.raises(ClusterError, match="no weights 'alice/private' that 'bob' may use"):
        bob.run(blind, X, weights="alice/private")
    with pytest.raises(ClusterError, match="no weights 'alice/nothing'"):
        bob.run(blind, X, weights="alice/nothing")
    thief = secure(lambda w, x: w + x.sum()).hold(w=jax.ShapeDtypeStruct(W.shape, W.dtype))
    with pytest.raises(ClusterError, match=r"serve plan .* alone"):
        bob.run(thief, X, weights="alice/shared")
    with pytest.raises(ClusterError, match="belong to another client"):
        bob.upload(layer.hold(w=W), x=X, name="alice/private")
    bob.upload(layer.hold(w=-W), x=X, name="private")  # a name of his own
    assert bob.run(blind, X, weights="private").outputs["y"] == pytest.approx(expected(-W), abs=0.01)
    assert alice.run(blind, X, weights="private").outputs["y"] == pytest.approx(expected(), abs=0.01)
    with pytest.raises(ClusterError, match="clients of this cluster"):
        alice.upload(layer.hold(w=W), x=X, name="other", users=["carol"])
    assert bob.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)  # the session goes on


def test_what_a_cluster_does_not_run_is_refused_and_the_session_goes_on(alice):
    function = secure(lambda x: jax.nn.gelu(x))
    plan = function.lower(X).plan
    alice._parties.ask("plan", {}, [("plan", np.frombuffer(encode_plan(plan), np.uint8))], "planned")
    asked = {
        "plan": plan.hash(),
        "weights": None,
        "places": [0],
        "dealer": None,
        "count": 1,
        "material": None,
    }
    for change, reason in (
        ({"dealer": 0}, "no masked shares"),
        ({"count": 0}, "1 to 32 inputs"),
        ({"count": 33}, "1 to 32 inputs"),
        ({"places": [0, 0]}, "not distinct"),
        ({"places": []}, "not the plan's inputs"),
        ({"material": 1}, "no material 1 in this session"),
        ({"plan": "x"}, "no plan x"),
    ):
        with pytest.raises(ClusterError, match=reason):
            alice._parties.ask("run", asked | change, (), "ready")
    assert alice.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)


def test_mistakes_of_the_caller_are_found_before_anything_is_sent(alice):
    with pytest.raises(InputError, match="holds no arguments"):
        alice.upload(layer, W, X, name="w")
    with pytest.raises(RangeError, match="secret argument 'x'"):
        alice.run(layer, W, X * 1e15)
    assert alice.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)


def test_clients_at_the_same_time(parties):
    results, threads = {}, []

    def work(name, sign):
        with connect(parties.file, name) as client:
            results[name, sign] = [client.run(layer, W, sign * X).outputs["y"] for _ in range(3)]

    for name, sign in (("alice", 1), ("alice", -1), ("bob", 1), ("bob", -1)):
        threads.append(threading.Thread(target=work, args=(name, sign)))
        threads[-1].start()
    for each in threads:
        each.join()
    assert len(results) == 4
    for (_, sign), outputs in results.items():
        for output in outputs:
            assert output == pytest.approx(expected(x=sign * X), abs=0.01)


def test_a_name_that_is_no_client(parties):
    with pytest.raises(InputError, match="'carol' is none of the cluster's: alice, bob"):
        connect(parties.file, "carol")
    with pytest.raises(InputError, match="None is none"):
        connect(parties.file)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "bob"}, "'bob' shows the certificate of 'alice'"),
        ({"name": "party1"}, "'party1' shows the certificate of 'alice'"),
        ({"session": "x"}, "32 hexadecimal digits"),
        ({"session": None}, "starts with a hello"),
        ({"facts": None}, "sent no facts"),
        ({"facts": {}}, "differ in protocol"),
    ],
    ids=range(6),
)
def test_a_hello_that_is_refused_says_why(parties, changes, reason):
    made = raw(parties, **changes)
    answer = made.receive(5.0)
    assert (answer.kind, answer.facts["over"]) == ("error", True)
    assert reason in answer.facts["reason"]
    made.close()


@pytest.mark.parametrize("name", ["version of jax", "code", "rings", "cluster file"])
def test_the_difference_is_named_before_any_share_moves(parties, monkeypatch, name):
    with connect(parties.file, "alice") as client:
        client._parties._facts = client._parties._facts | {name: "other"}
        with pytest.raises(PartyError, match=f"'alice' differ in {name}: .* here, other there"):
            client.run(layer, W, X)


def test_parties_whose_processors_compute_otherwise_refuse_each_other(parties, monkeypatch):
    server = parties.servers[1]
    monkeypatch.setattr(server, "_party_facts", server._party_facts | {"arithmetic": "other"})
    with connect(parties.file, "alice") as client, pytest.raises(PartyError, match="differ in arithmetic"):
        client.run(layer, W, X)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_parties_that_compute_other_public_values_give_no_output(parties, monkeypatch, rank):
    """Processors may round differently, also where the compared functions agree."""
    public = secure(lambda x, mask: x * jax.numpy.exp(mask), public=("mask",))
    evaluate, execute, here = executor.ir.evaluate, session.execute, threading.local()

    def rounded(text, arrays):
        results = evaluate(text, arrays)
        return [
            np.nextafter(each, np.inf) if getattr(here, "rank", None) == rank else each for each in results
        ]

    def noted(plan, members, link, *rest):
        here.rank = link.rank
        return execute(plan, members, link, *rest)

    with connect(parties.file, "alice") as client:
        assert client.run(public, X, X).outputs == pytest.approx(X * np.exp(X), abs=0.01)
        monkeypatch.setattr(executor.ir, "evaluate", rounded)
        monkeypatch.setattr(session, "execute", noted)
        with pytest.raises(PartyError, match="have computed different public values"):
            client.run(public, X, X)


def test_differences():
    assert difference({"a": "1"}, {"a": "1"}) is None
    assert difference({"a": "1"}, {"a": "1", "b": "2"}) == "b: None here, 2 there"


def test_parties_that_are_asked_differently_refuse_together(parties, alice):
    alice.run(layer, W, X)
    plan = layer.lower(W, X).plan.hash()
    for rank, channel in enumerate(alice._parties._channels):
        channel.send("run", {"plan": plan, "weights": None, "places": [0, 1] if rank else [1, 0], "count": 1})
    for channel in alice._parties._channels:
        answer = channel.receive(10.0)
        assert answer.kind == "error"
        assert "have different requests" in answer.facts["reason"]
    assert alice.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)


def test_different_public_inputs_end_the_session(parties):
    function = secure(lambda x, mask: x @ mask, public=("mask",), guard=False)
    with connect(parties.file, "alice") as client:
        client.run(function, X, W)
        plan = function.lower(X, W).plan
        client._parties.ask(
            "run", {"plan": plan.hash(), "weights": None, "places": [0, 1], "count": 1}, (), "ready"
        )
        share = np.zeros(X.shape, plan.vars[plan.inputs[0].var].fxp.dtype)
        for rank, channel in enumerate(client._parties._channels):
            channel.send("shares", {"member": 0, "place": 0}, [("mine", share), ("next", share)])
            channel.send("shares", {"member": 0, "place": 1}, [("public", W + rank)])
        assert any("different public inputs" in reason for reason in errors(client, lambda channel: None))
        client._leave()
        assert client.run(function, X, W).outputs == pytest.approx(X @ W, abs=0.01)


@pytest.mark.parametrize(
    "send",
    [
        lambda channel: channel.send("tensors", {}),
        lambda channel: channel.send("shares", {"place": 0}),
        lambda channel: channel._write(memoryview(b"GET / HTTP/1.1\r\n\r\n" + bytes(64))),
        lambda channel: channel.send("run", {"plan": [[]], "places": {}, "weights": 7}),
        lambda channel: channel.send("hold", {"users": [[]], "name": 1}),
        lambda channel: channel.send("plan", {}, [("plan", np.zeros(3, np.int64))]),
    ],
    ids=range(6),
)
def test_nonsense_from_a_client_ends_in_an_error(parties, send):
    with connect(parties.file, "alice") as client:
        client._parties.open()
        assert errors(client, send)


def test_inputs_of_another_shape_than_the_plan_end_the_session(parties):
    with connect(parties.file, "alice") as client:
        client.run(layer, W, X)
        plan = layer.lower(W, X).plan.hash()
        client._parties.ask("run", {"plan": plan, "weights": None, "places": [0, 1], "count": 1}, (), "ready")
        wrong = [("mine", np.zeros(2, np.int32))]
        answers = errors(client, lambda channel: channel.send("shares", {"member": 0, "place": 0}, wrong))
        assert any("not as the plan declares" in each for each in answers)


def test_a_client_that_leaves_frees_the_parties(parties, eventually):
    client = connect(parties.file, "alice")
    client.run(layer, W, X)
    assert any(server._sessions for server in parties.servers)
    before = max(len(server._sessions) for server in parties.servers)
    client.close()
    eventually(lambda: all(len(server._sessions) < before for server in parties.servers))


def test_logs_hold_no_values(parties, caplog):
    caplog.set_level(logging.DEBUG, "ditto_spu.cluster")
    with connect(parties.file, "alice") as client:
        client.run(layer, W, X)
    allowed = {
        "session",
        "client",
        "request",
        "plan",
        "seconds",
        "bytes_sent",
        "reason",
        "party",
        "peer",
        "inputs",
        "weights",
        "users",
        "bytes",
        "kind",
    }
    for record in caplog.records:
        assert set(record.facts) <= allowed
        assert not any(isinstance(value, list | np.ndarray) for value in record.facts.values())


def test_sessions_are_limited(trial):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nsessions = 1\n")
    trial.serve()
    with connect(trial.file, "alice") as first, connect(trial.file, "bob") as second:
        first.run(layer, W, X)
        with pytest.raises(PartyError, match=r"all clients have 1 sessions.*try again later"):
            second.run(layer, W, X)
        assert first.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)


def test_plaintext_needs_its_flag_and_warns(trial, caplog):
    trial.file.write_text("tls = false\n" + trial.file.read_text())
    trial.serve()
    with connect(trial.file, "alice") as client:
        assert client.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)
    warnings = [record for record in caplog.records if record.getMessage() == "plaintext"]
    assert len(warnings) == 4
    assert "nobody is authenticated" in warnings[0].facts["warning"]


def test_a_stranger_without_tls_is_refused(parties):
    with socket.create_connection(load_cluster(parties.file).addresses[0]) as sock:
        sock.settimeout(10)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"DTTO" not in sock.recv(1000)
