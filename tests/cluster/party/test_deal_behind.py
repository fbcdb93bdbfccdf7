"""Material that is dealt while a request runs changes no output and no byte. Its faults end the request."""

from __future__ import annotations

import threading

import jax
import numpy as np
import pytest

from ditto_spu import secure
from ditto_spu.cluster.client.client import connect
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party import deal_behind, session
from ditto_spu.errors import PartyError

X = np.linspace(-3, 3, 40, dtype=np.float32).reshape(8, 5)
W = np.linspace(-1, 1, 25, dtype=np.float32).reshape(5, 5)


def plain(w, x):
    return jax.nn.softmax(jax.nn.gelu(x @ w) @ w)


program = secure(plain, guard=False)


@pytest.fixture
def alice(parties, monkeypatch):
    monkeypatch.setattr(PeerLink, "distant", True)
    with connect(parties.file, "alice") as client:
        yield client


@pytest.mark.parametrize("window", [0, 3000])
def test_a_window_holds_the_dealers_back(alice, monkeypatch, window):
    execute, ahead = session.execute, []

    def small(plan, members, link, spu, _, *rest):
        return execute(plan, members, link, spu, window, *rest)

    admitted = deal_behind.DealBehind._admitted

    def watched(behind, step, sends):
        on = admitted(behind, step, sends)
        ahead.append((len({behind._stage[each] for each in behind._ahead}), sum(behind._ahead.values())))
        return on

    monkeypatch.setattr(session, "execute", small)
    monkeypatch.setattr(deal_behind.DealBehind, "_admitted", watched)
    result = alice.run_many(program, [(W, X), (W, X / 2)])
    for output, x in zip(result.outputs, (X, X / 2), strict=True):
        assert output == pytest.approx(np.asarray(plain(W, x)), abs=0.01)
    assert all(stages <= 1 or size <= window for stages, size in ahead)


def test_reports_have_what_was_dealt_behind(alice):
    report, simulated = alice.run(program, W, X).report, program.run(W, X).report
    assert report.offline_bytes_sent_per_party == simulated.offline_bytes_sent_per_party
    assert min(report.offline_bytes_sent_per_party) > 0
    assert report.bytes_sent_per_party == simulated.bytes_sent_per_party
    for mine, theirs in zip(report.rows, simulated.rows, strict=True):
        assert (mine.step, mine.offline_bytes) == (theirs.step, theirs.offline_bytes)
    for each in report.times:
        assert min(each.computing, each.sending, each.waiting) > 0
        assert each.computing + each.sending + each.waiting - each.hidden <= report.seconds + 0.1
    assert "party 2:" in str(report) and " s hidden" in str(report)


def test_a_dealer_that_fails_ends_the_request_at_once(alice, monkeypatch):
    def broken(*arguments):
        raise ValueError("no more masks")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(deal_behind, "dealing", broken)
        with pytest.raises(PartyError, match="dealing failed: no more masks"):
            alice.run(program, W, X)
    assert alice.run(program, W, X).outputs.shape == X.shape


def test_no_thread_outlives_its_request(alice, monkeypatch, eventually):
    def failing(*arguments):
        raise RuntimeError("this party stops")

    with monkeypatch.context() as patch:
        patch.setattr("ditto_spu.cluster.party.groups.executing", failing)
        with pytest.raises(PartyError, match="this party stops"):
            alice.run(program, W, X)
    eventually(lambda: not any("DealBehind" in repr(each._target) for each in threading.enumerate()))
