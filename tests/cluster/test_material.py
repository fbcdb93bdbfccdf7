"""Tests the offline phase of a session's parties, masked shares, and several inputs in one request."""

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.randomness import Randomness
from ditto_spu import connect, secure
from ditto_spu.cluster.commands import run_on_cluster
from ditto_spu.errors import ClusterError, InputError

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
W = np.linspace(-1, 1, 8).reshape(4, 2).astype(np.float32)
MASK = np.float32([[1, 0, 1, 0]])


def layer(w, x):
    return {"y": jax.nn.gelu(x @ w), "sum": x.sum()}


def masked_by(x, mask):
    return jax.nn.gelu(x) * mask


plain, masked = (secure(layer, masked=each, guard=True) for each in (False, True))
public = secure(masked_by, public=("mask",), masked=True)


def right(outputs, x=X, w=W):
    return outputs["y"] == pytest.approx(np.asarray(jax.nn.gelu(x @ w)), abs=0.01)


@pytest.mark.parametrize("function", [plain, masked], ids=["plain", "masked"])
def test_what_is_dealt_ahead_is_what_a_simulation_deals(alice, function):
    simulated = function.run(W, X, material=function.precompute(W, X)).report
    for _ in range(3):  # with masked shares each party is dealer once
        material = alice.precompute(function, W, X)
        assert material.bytes > 0
        result = alice.run(function, W, X, material=material)
        assert right(result.outputs)
        assert sorted(result.report.bytes_sent_per_party) == sorted(simulated.bytes_sent_per_party)
        assert result.report.rounds == simulated.rounds
        assert result.report.offline_seconds == material.seconds
        with pytest.raises(InputError, match="spent: each serves one request"):
            alice.run(function, W, X, material=material)


def test_masked_shares_deal_within_a_request_that_has_no_material(alice):
    for x in (X, -X, X):
        assert right(alice.run(masked, W, x).outputs, x)


def test_masked_weights_are_uploaded_once_for_all_dealers(alice, parties, monkeypatch):
    alice.upload(masked.hold(w=W), x=X, name="masked", users=["bob"])
    blind = masked.hold(w=jax.ShapeDtypeStruct(W.shape, W.dtype))
    with connect(parties.file, "bob") as bob:
        for x in (X, -X, X):
            material = bob.precompute(blind, X, weights="alice/masked")
            assert right(bob.run(blind, x, weights="alice/masked", material=material).outputs, x)
        material = bob.precompute(blind, X, weights="alice/masked")
        alice.upload(masked.hold(w=-W), x=X, name="masked", users=["bob"], replace=True)
        with pytest.raises(ClusterError, match="dealt for another plan, other weights"):
            bob.run(blind, X, weights="alice/masked", material=material)
        assert right(bob.run(blind, X, weights="alice/masked").outputs, w=-W)


def test_the_command_line_deals_ahead_at_the_parties(parties):
    for function in (plain, masked):
        report = run_on_cluster(function, (W, X), parties.file, "alice", ahead=True)
        assert report.offline_seconds > 0
        assert run_on_cluster(function, (W, X), parties.file, "alice").rounds == report.rounds


def test_public_arguments_belong_to_the_material(alice):
    material = alice.precompute(public, X, MASK)
    with pytest.raises(InputError, match="other public arguments"):
        alice.run(public, X, 1 - MASK, material=material)
    expected = np.asarray(jax.nn.gelu(X)) * MASK
    assert alice.run(public, X, MASK, material=material).outputs == pytest.approx(expected, abs=0.01)


def test_material_serves_its_own_request_in_its_own_session(alice, parties):
    material = alice.precompute(masked, W, X)
    with pytest.raises(InputError, match="another function, other shapes"):
        alice.run(plain, W, X, material=material)
    with pytest.raises(InputError, match="for 1 inputs, not 2"):
        alice.run_many(masked, [(W, X), (W, X)], material=material)
    with connect(parties.file, "alice") as other:
        other.run(plain, W, X)
        with pytest.raises(InputError, match="lost with its session"):
            other.run(masked, W, X, material=material)
    assert right(alice.run(masked, W, X, material=material).outputs)
    material.spent = False  # the parties refuse a client that tries it again
    with pytest.raises(ClusterError, match="each serves one request"):
        alice.run(masked, W, X, material=material)


def test_material_that_was_lost_with_its_session_is_named(parties):
    with connect(parties.file, "alice") as client:
        material = client.precompute(masked, W, X)
        client._parties._channels[1].close()
        with pytest.raises(InputError, match="lost with its session"):
            client.run(masked, W, X, material=material)
        assert right(client.run(masked, W, X).outputs)


def test_unspent_material_is_limited(trial):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nwaiting_mb = 1\n")
    trial.serve()
    gelu, x = secure(lambda x: jax.nn.gelu(x)), np.zeros((64, 64), np.float32)
    with connect(trial.file, "alice") as client:
        made = []
        with pytest.raises(ClusterError, match="bytes of unspent material"):
            while len(made) < 50:
                made.append(client.precompute(gelu, x))
        assert client.run(gelu, x, material=made[0]).outputs == pytest.approx(x, abs=0.01)
        client.precompute(gelu, x)


@pytest.mark.parametrize("function", [plain, masked], ids=["plain", "masked"])
def test_several_inputs_share_the_rounds_of_one(alice, function):
    single = alice.run(function, W, X).report
    done = alice.run_many(function, [(W, X), {"w": W, "x": -X}, (-W, X)])
    assert [right(*each) for each in zip(done.outputs, (X, -X, X), (W, W, -W), strict=True)] == [True] * 3
    assert done.report.rounds == single.rounds
    assert sum(done.report.bytes_sent_per_party) == 3 * sum(single.bytes_sent_per_party)
    material = alice.precompute_many(function, [(W, X)] * 2)
    done = alice.run_many(function, [(W, X), (W, -X)], material=material)
    assert right(done.outputs[0])
    assert right(done.outputs[1], -X)


def test_no_stream_serves_two_requests(parties, monkeypatch):
    drawn: dict[tuple, list[Randomness]] = {}
    draw = Randomness.draw

    def noted(self, component, label, *rest):
        owners = drawn.setdefault((self._keys.rank, self._keys.mine, self._prefix, component, label), [])
        owners.append(self)
        return draw(self, component, label, *rest)

    monkeypatch.setattr(Randomness, "draw", noted)
    with connect(parties.file, "alice") as client:
        for _ in range(2):
            client.run(plain, W, X)
        client.run_many(plain, [(W, X)] * 2)
        plain_ones = len(drawn)
        assert len({owner._prefix for owners in drawn.values() for owner in owners}) == 3
        for function in (plain, masked, masked):
            client.run(function, W, X, material=client.precompute(function, W, X))
    # A dealer may draw again online what it drew to deal: the same masks, of the same request.
    assert all(len(owners) == len(set(owners)) <= 2 for owners in drawn.values())
    requests = {owner._prefix for owners in drawn.values() for owner in owners}
    assert len(requests) == 3 + 3
    assert len(drawn) > plain_ones > 0


def test_inputs_of_one_request_are_alike(alice):
    with pytest.raises(InputError, match="same shapes"):
        alice.run_many(plain, [(W, X), (W, X[:2])])
    with pytest.raises(InputError, match="takes 1 to 32 inputs"):
        alice.run_many(plain, [])
    with pytest.raises(InputError, match="tuples or dictionaries"):
        alice.run_many(plain, [X])


def test_inputs_that_would_not_fit_the_queue_are_refused(trial):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nqueued_mb = 1\n")
    trial.serve()
    gelu = secure(lambda x: jax.nn.gelu(x))
    with connect(trial.file, "alice") as client:
        with pytest.raises(ClusterError, match=r"more than the 524288 .*`queued_mb`"):
            client.run(gelu, np.zeros((1024, 512), np.float32))
        assert client.run(gelu, X).outputs == pytest.approx(np.asarray(jax.nn.gelu(X)), abs=0.01)
