"""Tests pairwise keys from X25519: every pair has its own key, and every session has new ones."""

import itertools

import pytest

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.pair_keys import KeyExchange


def exchanged(session="s", fingerprints=("a", "b", "c")):
    made = [KeyExchange(rank, session, fingerprints) for rank in range(3)]
    public = {rank: each.public for rank, each in enumerate(made)}
    return [each.pair_keys(public) for each in made], made, public


def test_both_holders_of_a_component_have_its_key_and_all_differ():
    keys, _, _ = exchanged()
    for j in range(3):
        assert keys[j].mine == keys[(j - 1) % 3].next
    assert len({keys[j].mine for j in range(3)}) == 3


def test_keys_depend_on_session_and_certificates_and_are_fresh():
    _, made, public = exchanged()
    other = KeyExchange(0, "t", ("a", "b", "c"))
    other._private = made[0]._private
    third = KeyExchange(0, "s", ("a", "b", "x"))
    third._private = made[0]._private
    keys = [each.pair_keys(public) for each in (made[0], other, third)]
    assert len({each.mine for each in keys}) == 3
    assert keys[0].next != keys[1].next
    assert keys[0].next == keys[2].next  # key 1 belongs to parties 0 and 1, whose certificates did not change
    assert all(a.mine != b.mine for a, b in itertools.pairwise([exchanged()[0][0] for _ in range(3)]))


def test_nothing_secret_is_shown():
    keys, made, _ = exchanged()
    assert keys[0].mine.hex() not in repr(keys[0])
    assert made[0]._private.private_bytes_raw().hex() not in repr(vars(made[0]))


@pytest.mark.parametrize("public", ["", "zz", "00" * 31, "00" * 32, None])
def test_a_malformed_public_key_is_refused(public):
    _, made, sound = exchanged()
    with pytest.raises(LinkError, match="party 1 sent no valid X25519 key"):
        made[0].pair_keys({**sound, 1: public})
