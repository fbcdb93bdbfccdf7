"""Tests that parties refuse what a client may not ask or send, and say why."""

import contextlib

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu import connect, secure
from ditto_spu.errors import ClusterError, InputError, PartyError, RangeError
from ditto_spu.plan.codec import encode_plan
from tests.cluster.layer import W, X, expected, layer


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
    with pytest.raises(ClusterError, match="there is no client"):
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


def test_sessions_are_limited(trial):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nsessions = 1\n")
    trial.serve()
    with connect(trial.file, "alice") as first, connect(trial.file, "bob") as second:
        first.run(layer, W, X)
        with pytest.raises(PartyError, match=r"all clients have 1 sessions.*try again later"):
            second.run(layer, W, X)
        assert first.run(layer, W, X).outputs["y"] == pytest.approx(expected(), abs=0.01)
