"""Members of a batch run in groups out of phase, with the outputs, bytes and rounds of one group."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ditto_spu import secure
from ditto_spu.cluster.client.client import connect
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.party import groups as module
from ditto_spu.cluster.party.groups import groups
from ditto_spu.errors import PartyError

X = np.linspace(-3, 3, 40, dtype=np.float32).reshape(8, 5)


def plain(x, scale):
    return jax.nn.softmax(x) * jax.numpy.exp(scale)


program = secure(plain, public=("scale",), guard=False)


@pytest.mark.parametrize(("count", "sizes"), [(5, [2, 3]), (4, [2, 2]), (1, [1])])
def test_groups_are_in_order_and_nearly_equal(count, sizes):
    made = groups([*range(count)], 2, PeerLink(0, {}, "s", 1.0, 1))
    assert [len(each.members) for each in made] == sizes
    assert [member for each in made for member in each.members] == [*range(count)]


@pytest.fixture
def alice(parties):
    with connect(parties.file, "alice") as client:
        yield client


@pytest.mark.parametrize("distant", [(0, 1, 2), (1,)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_outputs_bytes_and_rounds_are_those_of_one_group(alice, monkeypatch, count, distant):
    """Each party decides for itself whether it computes while messages travel."""
    calls = [(X + number / 8, np.float32(number / 10)) for number in range(count)]
    monkeypatch.setattr(PeerLink, "distant", property(lambda link: link.rank in distant))
    together = alice.run_many(program, calls)
    monkeypatch.setattr(PeerLink, "distant", False)
    alone = alice.run_many(program, calls)
    for call, output in zip(calls, together.outputs, strict=True):
        assert output == pytest.approx(np.asarray(plain(*call)), abs=0.01)
    for mine, theirs in zip(together.report.rows, alone.report.rows, strict=True):
        assert (mine.online_bytes, mine.offline_bytes) == (theirs.online_bytes, theirs.offline_bytes)
        assert mine.rounds == theirs.rounds


@pytest.mark.parametrize("group", [0, 1])
def test_a_group_that_fails_ends_the_other_with_its_reason(alice, monkeypatch, group):
    executing = module.executing
    monkeypatch.setattr(PeerLink, "distant", True)

    def failing(plan, members, lane, *rest):
        if lane.rank == 1 and members[0].party.scope == f"/member{group}":
            raise PartyError("this group stops")
        return executing(plan, members, lane, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "executing", failing)
        with pytest.raises(PartyError, match="this group stops"):
            alice.run_many(program, [(X, np.float32(0))] * 2)
    assert alice.run(program, X, np.float32(0)).outputs.shape == X.shape
