"""A conversation at a cluster's parties: its cache grows and is kept, and drafts are verified there."""

from __future__ import annotations

from typing import Any

import pytest

import ditto_spu as ditto
from ditto_spu import connect
from tests.generation import toy
from tests.generation.test_conversation import LONG, ids


def test_a_conversation_grows_and_goes_on_at_the_parties(parties: Any) -> None:
    with connect(parties.file, "alice") as client:
        made = ditto.Generator(toy.decoder(), toy.table(), length=200, cluster=client)
        conversation = made.conversation()
        expected = toy.greedy(toy.table(), LONG, 7)
        right = ditto.Drafts(3, lambda text, count: expected[len(text) - 60 :][:count])
        assert ids(conversation.stream(LONG, 7, drafts=right)) == expected
        turn = [*LONG, *expected, 1, 2]
        assert ids(conversation.stream(turn, 1)) == toy.greedy(toy.table(), turn, 1)


@pytest.mark.slow
def test_weights_of_an_owner_serve_the_turns_that_she_names(parties: Any) -> None:
    with connect(parties.file, "alice") as owner, connect(parties.file, "bob") as user:
        mine = ditto.Generator(toy.decoder(), toy.table(), length=40, cluster=owner)
        mine.upload("toy", prompts=(9,), turns=(3,), users=["bob"])
        guest = ditto.Generator(toy.decoder(), toy.table(), length=40, cluster=user, weights="alice/toy")
        conversation = guest.conversation()
        text = LONG[:9]
        for more in ([], [1, 2]):
            text = [*text, *more]
            answer = ids(conversation.stream(text, 2))
            assert answer == toy.greedy(toy.table(), text, 2)
            text = [*text, *answer]
