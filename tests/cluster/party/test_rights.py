"""Tests the rights to weights, what clients may occupy, and clients that give parties different inputs."""

import contextlib
import logging
import secrets
from dataclasses import replace

import jax
import numpy as np
import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.randomness import PairKeys, Randomness
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss
from ditto_spu import connect, secure
from ditto_spu.cluster.client.uploads import messages, split
from ditto_spu.cluster.party.input_digests import InputDigests, digests
from ditto_spu.cluster.party.plan_checker import CheckedPlan
from ditto_spu.cluster.party.quota import Quota
from ditto_spu.cluster.party.store import Store
from ditto_spu.cluster.party.weights import Served, Weights
from ditto_spu.errors import ClusterError, PartyError
from ditto_spu.plan.resources import Need
from ditto_spu.runtime.precompute import client_key, random_bytes

X = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
W = np.linspace(-1, 1, 8).reshape(4, 2).astype(np.float32)
SHAPE = jax.ShapeDtypeStruct(W.shape, W.dtype)


def layer(w, x):
    return jax.nn.gelu(x @ w)


plain, masked = secure(layer), secure(layer, masked=True)
CALL = plain.hold(w=W).call(x=X)
PLAN = CALL.lowered.plan


def right(outputs, w=W):
    return outputs == pytest.approx(np.asarray(jax.nn.gelu(X @ w)), abs=0.01)


def upload_facts(name, **changes):
    facts = {"name": name, "plan": PLAN.hash(), "places": list(CALL.held), "users": [], "lasting": True}
    return facts | {"token": secrets.token_hex(16), "replace": False} | changes


@pytest.fixture
def alice(parties):
    with connect(parties.file, "alice") as client:
        yield client
        for each in client.weights():
            if each.name.startswith("alice/"):
                client.drop(each.name)


@pytest.fixture
def bob(parties):
    with connect(parties.file, "bob") as client:
        client.run(plain, W, X)  # his plan is at the parties
        yield client


# Names and rights.


def test_a_plan_is_named_by_its_whole_digest():
    assert len(PLAN.hash()) == 64


@pytest.mark.parametrize(
    "name", ["alice/model", "model", "/model", "bob/", "bob/a b", "bob/../alice/model", 7]
)
def test_nobody_takes_a_name_of_another_client(bob, name):
    with pytest.raises(ClusterError, match=r"would belong to another client|need a name"):
        bob._parties.ask("hold", upload_facts(name), (), "ready")


def test_an_upload_that_was_agreed_on_earlier_does_not_take_the_weights_of_a_later_one(alice, parties):
    with connect(parties.file, "alice") as other:
        other._session(lambda: other._register(PLAN))
        other._parties.ask("hold", upload_facts("alice/model"), (), "ready")
        with pytest.raises(ClusterError, match="another upload of 'alice/model' is on its way"):
            alice.upload(plain.hold(w=W), x=X, name="model")
    while True:  # the name is free again when the unfinished upload has ended
        with contextlib.suppress(ClusterError):
            alice.upload(plain.hold(w=W), x=X, name="model")
            break
    assert right(alice.run(plain.hold(w=SHAPE), X, weights="model").outputs)


def test_weights_are_never_replaced_unasked(alice):
    alice.upload(plain.hold(w=W), x=X, name="model")
    with pytest.raises(ClusterError, match="drop or replace them"):
        alice.upload(plain.hold(w=-W), x=X, name="model")
    assert right(alice.run(plain.hold(w=SHAPE), X, weights="model").outputs)
    alice.upload(plain.hold(w=-W), x=X, name="model", replace=True)
    assert right(alice.run(plain.hold(w=SHAPE), X, weights="model").outputs, -W)


def test_weights_are_listed_and_dropped(alice, bob):
    alice.upload(plain.hold(w=W), x=X, name="shared", users=["bob"])
    alice.upload(plain.hold(w=W), x=X, name="private")
    assert [(each.name, each.users, each.complete) for each in alice.weights()] == [
        ("alice/private", (), True),
        ("alice/shared", ("bob",), True),
    ]
    (seen,) = bob.weights()
    assert (seen.name, seen.plans, seen.nbytes > 0) == ("alice/shared", (PLAN.hash(),), True)
    with pytest.raises(ClusterError, match="'bob' owns no weights 'alice/shared'"):
        bob.drop("alice/shared")
    alice.drop("shared")
    with pytest.raises(ClusterError, match="no weights 'alice/shared'"):
        bob.run(plain.hold(w=SHAPE), X, weights="alice/shared")
    with pytest.raises(ClusterError, match="owns no weights 'alice/shared'"):
        alice.drop("shared")


def test_weights_without_a_name_end_with_their_session(parties, eventually):
    with connect(parties.file, "alice") as client:
        for w in (W, -W):  # the second ones take the place of the first
            assert right(client.run(plain.hold(w=w), X).outputs, w)
            assert len(client.weights()) == 1
    eventually(lambda: all(server._shared.store.nbytes == 0 for server in parties.servers))


def test_requests_during_a_replacement_are_asked_again(alice, parties):
    alice.upload(plain.hold(w=W), x=X, name="model")
    blind, store = plain.hold(w=SHAPE), parties.servers[1]._shared.store
    alice.run(blind, X, weights="model")
    after = store._weights["alice/model"]
    store._weights["alice/model"] = replace(
        after, serves={PLAN.hash(): replace(after.serves[PLAN.hash()], token="before")}
    )  # this party is not done yet
    tries, ask = [], alice._parties._ask

    def second(*arguments):
        tries.append(arguments)
        if len(tries) == 3:
            store._weights["alice/model"] = after
        return ask(*arguments)

    alice._parties._ask = second
    assert right(alice.run(blind, X, weights="model").outputs)
    assert len(tries) == 3


def test_every_plan_upload_and_use_of_weights_is_logged(alice, bob, caplog):
    caplog.set_level(logging.INFO, "ditto_spu.cluster")
    alice.upload(plain.hold(w=W), x=X, name="model", users=["bob"])
    bob.run(plain.hold(w=SHAPE), X, weights="alice/model")
    with pytest.raises(ClusterError):
        bob.run(plain.hold(w=SHAPE), X, weights="alice/other")
    alice.drop("model")
    found = [
        (each.getMessage(), each.facts["client"], each.facts.get("weights"))
        for each in caplog.records
        if "client" in each.facts
    ]
    for event in (
        ("plan", "alice", None),
        ("upload", "alice", "alice/model"),
        ("request", "bob", "alice/model"),
        ("request refused", "bob", None),
        ("drop", "alice", "alice/model"),
    ):
        assert found.count(event) >= 3, event


# The store alone.


def store(total=1000, of_client=600, plans=2, clock=lambda: 0.0):
    return Store(plans, Quota("bytes of weights", "held_mb", total, of_client), 60.0, clock)


def made(owner="alice", nbytes=100, session=None, users=()):
    return serving(CheckedPlan(PLAN, Need(0, 0)), owner, nbytes, session, users)


def serving(plan, owner="alice", nbytes=100, session=None, users=()):
    token = secrets.token_hex(4)
    served = {plan.hash: Served(plan, token, {})}
    return Weights(owner, users, token, session, nbytes, served)


def test_rights_are_checked_again_when_weights_are_stored():
    kept = store()
    with kept.uploading("alice/model", "alice", 100, False) as upload:
        for wrong in (made(owner="bob"), made(nbytes=101)):
            with pytest.raises(ClusterError, match="has ended"):
                kept.add_weights(upload, wrong)
    with pytest.raises(ClusterError, match="has ended"):
        kept.add_weights(upload, made())
    assert kept.nbytes == 0
    with kept.uploading("alice/model", "alice", 100, False) as upload:
        kept.add_weights(upload, made())
        with pytest.raises(ClusterError, match="has ended"):
            kept.add_weights(upload, made())
    with kept.uploading("alice/model", "alice", 50, True) as upload:
        kept.drop("alice/model", "alice")
        with pytest.raises(ClusterError, match="changed during the upload"):
            kept.add_weights(upload, made(nbytes=50))
    assert kept.nbytes == 0


def test_one_client_leaves_room_for_the_others():
    kept = store()
    for name, size in (("alice/a", 400), ("alice/b", 200)):
        with kept.uploading(name, "alice", size, False) as upload:
            kept.add_weights(upload, made(nbytes=size))
    with pytest.raises(ClusterError, match="one client may have 600"):
        kept.uploading("alice/c", "alice", 1, False).__enter__()
    with (
        kept.uploading("bob/a", "bob", 400, False),
        pytest.raises(ClusterError, match="all clients have 1000"),
    ):
        kept.uploading("carol/a", "carol", 1, False).__enter__()
    kept.end_session("other")
    kept.drop("alice/a", "alice")
    assert kept.nbytes == 200


def test_plans_of_one_client_do_not_displace_those_of_others_or_of_weights():
    kept = store()
    plans = [CheckedPlan(replace(PLAN, name=str(number)), Need(0, 0)) for number in range(5)]
    kept.add_plan("bob", plans[0])
    with kept.uploading("alice/model", "alice", 100, False) as upload:
        kept.add_weights(upload, serving(plans[4], users=("bob",)))
    for each in plans:
        kept.add_plan("mallory", each)
    assert kept.plan("bob", plans[0].hash) is plans[0]
    assert kept.plan("bob", plans[4].hash) is plans[4]
    for client, plan in (("mallory", plans[0]), ("bob", plans[3]), ("carol", plans[4])):
        with pytest.raises(ClusterError, match="send it first"):
            kept.plan(client, plan.hash)


def test_sessions_of_one_client_leave_room_for_others(trial):
    trial.file.write_text(trial.file.read_text() + "\n[limits]\nsessions = 4\n")
    trial.serve()
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(connect(trial.file, "alice")) for _ in range(3))
        for each in (first, second):
            assert right(each.run(plain, W, X).outputs)
        with pytest.raises(PartyError, match="'alice' has 2 sessions and wants 1 more"):
            third.run(plain, W, X)
        assert right(stack.enter_context(connect(trial.file, "bob")).run(plain, W, X).outputs)


# Inputs that differ at the parties.


def spoilt(parts, rank, component):
    """Return the parties' parts, in which one party has another value of one component of one input."""
    place = next(place for place, each in parts.items() if isinstance(each[0], Rss))
    changed = list(parts[place])
    name = "mine" if component == rank else "next"
    array = getattr(changed[rank], name).copy()
    array.flat[-1] += 1
    changed[rank] = replace(changed[rank], **{name: array})
    return parts | {place: changed}


@pytest.mark.parametrize(("rank", "component"), [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 0)])
@pytest.mark.parametrize("what", ["run", "hold"])
def test_parties_that_were_given_different_shares_do_not_compute(parties, what, rank, component):
    with connect(parties.file, "alice") as client:
        client._session(lambda: client._register(PLAN))
        parts = split(PLAN, CALL, (0, 1), random_bytes(client_key(None)))
        if what == "run":
            facts = {"plan": PLAN.hash(), "weights": None, "places": [0, 1], "count": 1}
        else:
            facts = upload_facts("alice/spoilt", places=[0, 1])
        client._parties.ask(what, facts, (), "ready")
        wrong = spoilt(parts, rank, component)
        with pytest.raises(PartyError, match="were given different shares of the inputs"):
            client._parties.upload(lambda party: messages(wrong, 0, party), "done")
        client._leave()
        assert right(client.run(plain, W, X).outputs)
        assert client.weights() == []


@pytest.mark.parametrize("place", [1, 2])
def test_shares_that_do_not_fit_those_of_the_dealer_of_masks_are_refused(parties, monkeypatch, place):
    """The dealer has drawn its components from a key. The others get theirs in the request."""
    real = messages

    def other(shared, member, rank):
        if not any(isinstance(each[0], Rss) for each in shared.values()):
            return real(shared, member, rank)
        dealer = client._dealer - 1
        component = (dealer + place + 1) % 3 if place == 2 else (dealer + 1) % 3
        return real(spoilt(shared, (dealer + place) % 3, component), member, rank)

    with connect(parties.file, "alice") as client:
        assert right(client.run(masked, W, X).outputs)
        monkeypatch.setattr("ditto_spu.cluster.client.client_session.messages", other)
        with pytest.raises(PartyError, match="different shares"):
            client.run(masked, W, X)


def test_a_tag_tells_a_party_without_the_component_nothing():
    """The tag of the same component differs from request to request, and needs the holders' key."""
    share = Rss(np.zeros(3, np.int32), np.zeros(3, np.int32), Fxp(32, 12))
    keys = [bytes([number]) * 16 for number in range(3)]

    def tags(rank, request):
        randomness = Randomness(PairKeys(rank, keys[rank], keys[(rank + 1) % 3]), "session", request)
        return digests([{0: share}], rank, randomness).tags

    assert tags(0, "1")[1] == tags(1, "1")[1]
    found = [tag for rank in range(3) for request in "12" for tag in tags(rank, request).values()]
    assert len(set(found)) == 6


def test_parties_with_other_inputs_are_named():
    same = {"public": "p", "tags": {}}
    InputDigests("p").compare(0, {1: same, 2: same})
    with pytest.raises(LinkError, match="parties 0 and 1 were given different public inputs"):
        InputDigests("p").compare(0, {1: same | {"public": "q"}, 2: same})
    mine, tags = InputDigests("p", {0: "a", 1: "b"}), [{"1": "b", "2": "c"}, {"2": "c", "0": "a"}]
    mine.compare(0, {1: same | {"tags": tags[0]}, 2: same | {"tags": tags[1]}})
    for wrong, names in (
        ([{"1": "x", "2": "c"}, tags[1]], "0 and 1"),
        ([tags[0], {"2": "x", "0": "a"}], "1 and 2"),
        ([tags[0], {"2": "c"}], "2 and 0"),
        ([tags[0], None], "1 and 2|2 and 0"),
    ):
        with pytest.raises(LinkError, match=f"parties ({names}) were given different shares"):
            mine.compare(0, {1: same | {"tags": wrong[0]}, 2: same | {"tags": wrong[1]}})


def test_weights_that_nobody_uses_are_forgotten(caplog):
    caplog.set_level("INFO", "ditto_spu.cluster")
    now = [0.0]
    kept = store(clock=lambda: now[0])
    for name in ("used", "unused"):
        with kept.uploading(f"alice/{name}", "alice", 100, replace=False) as upload:
            kept.add_weights(upload, made(users=("bob",)))
    for now[0] in (50.0, 100.0):
        assert kept.weights("alice/used", "bob", PLAN.hash())
    assert [*kept.usable("alice")] == ["alice/used"] and kept.nbytes == 100
    with pytest.raises(ClusterError, match=r"no weights 'alice/unused' .*nobody uses for 60 s are forgotten"):
        kept.weights("alice/unused", "bob", PLAN.hash())
    with kept.uploading("alice/unused", "alice", 100, replace=False) as upload:  # the name is free again
        kept.add_weights(upload, made())
    assert [each.facts["weights"] for each in caplog.records] == ["alice/unused"]
