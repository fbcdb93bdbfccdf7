"""Tests clients and three parties over TLS: results, reports, owners and uploads.

The parties are threads of this process.
"""

import logging
import threading

import jax
import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.errors import InputError
from tests.cluster.layer import W, X, expected, layer


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
