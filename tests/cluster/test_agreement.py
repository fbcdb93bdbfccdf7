"""Tests what participants compare before shares move: identities, software, arithmetic and requests."""

import contextlib
import secrets
import socket
import threading
from dataclasses import replace

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.cluster.net.agreement import difference, facts
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.cluster.net.connect import context, dial
from ditto_spu.cluster.party import session
from ditto_spu.cluster.party.peers import ask_whether_there
from ditto_spu.errors import InputError, PartyError
from ditto_spu.runtime import executor
from tests.cluster.layer import W, X, expected, layer


def raw(parties, **changes):
    """Connect to party 0 as alice without a client, and send a hello with `changes`."""
    cluster = load_cluster(parties.file)
    made = dial(cluster, 0, context(cluster, "alice", server=False))
    hello = {"name": "alice", "session": secrets.token_hex(16), "facts": facts(cluster)}
    made.send("hello", hello | changes)
    return made


def test_a_name_that_is_no_client(parties):
    with pytest.raises(InputError, match="'carol' is none of the cluster's: alice, bob"):
        connect(parties.file, "carol")
    with pytest.raises(InputError, match=r"say which client this is, .* the cluster has alice, bob"):
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


@pytest.mark.parametrize("name", ["form of plans", "release", "code", "rings", "cluster file"])
def test_the_difference_is_named_before_any_share_moves(parties, name):
    with connect(parties.file, "alice") as client:
        client._parties._facts = client._parties._facts | {name: "other"}
        with pytest.raises(PartyError, match=f"'alice' differ in {name}: .* here, other there"):
            client.run(layer, W, X)


def test_a_client_may_be_a_patch_release_behind(parties):
    with connect(parties.file, "alice") as client:
        client._parties._facts = client._parties._facts | {"version": "0.1.99", "code": "other"}
        assert client.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)


@pytest.mark.parametrize("name", ["arithmetic", "code that computes", "kernels", "version of numpy"])
def test_parties_that_would_compute_otherwise_refuse_each_other(parties, monkeypatch, name):
    server = parties.servers[1]
    other = replace(server._identity, party_facts=server._identity.party_facts | {name: "other"})
    monkeypatch.setattr(server, "_identity", other)
    with connect(parties.file, "alice") as client, pytest.raises(PartyError, match=f"differ in {name}"):
        client.run(layer, W, X)


def test_parties_ask_each_other_whether_they_are_there(parties, monkeypatch):
    first, second = (server._identity for server in parties.servers[:2])
    ask_whether_there(first, 1)
    other = replace(first, party_facts=first.party_facts | {"arithmetic": "other"})
    with pytest.raises(LinkError, match="party 1 and 'party0' differ in arithmetic"):
        ask_whether_there(other, 1)
    made = dial(first.cluster, 0, context(first.cluster, "alice", server=False))
    made.send("ping", {"name": "alice", "facts": first.facts})
    assert "starts with a hello" in made.receive(5.0).facts["reason"]
    made.close()
    assert second.peers == (0, 2)


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
    one, other = ({"version": number, "code": f"of {number}"} for number in ("0.1.0", "0.1.1"))
    assert difference(one, other) is None
    assert difference(one, one | {"code": "changed"}) == "code: of 0.1.0 here, changed there"
    assert difference(one | {"code that computes": "a"}, other | {"code that computes": "b"}) is not None


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


def test_a_stranger_without_tls_is_refused(parties):
    with socket.create_connection(load_cluster(parties.file).addresses[0]) as sock:
        sock.settimeout(10)
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"DTTO" not in sock.recv(1000)


def test_plaintext_needs_its_flag_and_warns(trial, caplog):
    trial.file.write_text("tls = false\n" + trial.file.read_text())
    trial.serve()
    with connect(trial.file, "alice") as client:
        assert client.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)
    warnings = [record for record in caplog.records if record.getMessage() == "plaintext"]
    assert len(warnings) == 4
    assert "nobody is authenticated" in warnings[0].facts["warning"]
