"""Sharing, streams, links and drivers of protocols do what they promise and refuse misuse."""

import hashlib
import os
import threading
import time

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ditto_kernels.protocol.link import LinkError, Receive, Send, memory_links
from ditto_kernels.protocol.party import Party, Round, parallel, run
from ditto_kernels.protocol.randomness import Randomness, StreamReuseError
from ditto_kernels.protocol.three_threads import fresh_keys, run_three
from ditto_kernels.values.formats import RINGS, Fxp
from ditto_kernels.values.replicated import Rss, reconstruct, share

BYTES = np.dtype(np.uint8)


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0,)])
def test_sharing_and_joining_are_inverse(ring, shape, rng):
    fxp = Fxp(ring, 0)
    value = rng.integers(-(2 ** (ring - 1)), 2 ** (ring - 1), shape).astype(fxp.dtype)
    parts = share(value, fxp, os.urandom)
    assert np.array_equal(reconstruct(parts), value)
    for rank in range(3):
        assert np.array_equal(parts[rank].next, parts[(rank + 1) % 3].mine)


def test_a_corrupted_part_is_noticed(rng):
    parts = list(share(rng.integers(0, 9, 4), Fxp(32, 0), os.urandom))
    parts[1] = Rss(parts[1].mine + 1, parts[1].next, parts[1].fxp)
    with pytest.raises(ValueError, match="component 1 differs"):
        reconstruct(parts)


def test_holders_of_a_component_draw_alike_and_others_cannot():
    first, second, third = (Randomness(keys) for keys in fresh_keys())
    assert np.array_equal(first.draw(1, "x", (8,), BYTES), second.draw(1, "x", (8,), BYTES))
    with pytest.raises(ValueError, match="does not hold"):
        third.draw(1, "x", (8,), BYTES)


def test_streams_differ_by_label_component_session_request_and_key():
    keys = fresh_keys(b"seed")[0]
    draws = [
        Randomness(keys).draw(0, "x", (16,), BYTES),
        Randomness(keys).draw(0, "y", (16,), BYTES),
        Randomness(keys).draw(1, "x", (16,), BYTES),
        Randomness(keys, session="s").draw(0, "x", (16,), BYTES),
        Randomness(keys, request="r").draw(0, "x", (16,), BYTES),
        Randomness(fresh_keys()[0]).draw(0, "x", (16,), BYTES),
    ]
    assert len({draw.tobytes() for draw in draws}) == len(draws)


@pytest.mark.parametrize("size", (1, 16, 17, 256, 257, 4096, 4097))
def test_a_stream_is_aes_in_counter_mode(size):
    keys = fresh_keys(b"seed")[0]
    nonce = hashlib.blake2b(b"s/r/x", digest_size=12).digest()
    cipher = Cipher(algorithms.AES(keys.mine), modes.CTR(nonce + bytes(4))).encryptor()
    drawn = Randomness(keys, "s", "r").draw(0, "x", (size,), BYTES)
    assert drawn.tobytes() == cipher.update(bytes(size))
    assert drawn.flags.writeable


def test_a_stream_is_never_drawn_twice():
    randomness = Randomness(fresh_keys()[0])
    randomness.draw(0, "x", (4,), BYTES)
    with pytest.raises(StreamReuseError, match="'x' of component 0"):
        randomness.draw(0, "x", (4,), BYTES)


def test_keys_are_never_printed():
    assert "mine=" not in repr(fresh_keys()[0])


def _receive(source, tag="t"):
    return Receive(source, tag, (2,), np.dtype(np.int32))


def test_a_link_counts_bytes_messages_and_rounds():
    links = memory_links()
    array = np.zeros(2, np.int32)
    links[0].send([Send(1, "t", array), Send(1, "u", array), Send(2, "d", array, offline=True)])
    links[1].receive([_receive(0)])
    links[1].send([Send(2, "t", array)])
    links[2].receive([_receive(1)])
    assert links[0].traffic().bytes_sent == 16
    assert links[0].traffic().messages == 1  # Tensors for one peer in one turn are one message.
    assert (links[0].traffic().offline_bytes, links[0].traffic().offline_messages) == (8, 1)
    assert [link.traffic().rounds for link in links] == [0, 1, 2]


def test_dealt_material_takes_no_round():
    links = memory_links()
    links[0].send([Send(1, "t", np.zeros(2, np.int32), offline=True)])
    links[1].receive([_receive(0)])
    assert links[1].traffic().rounds == 0


def test_a_malformed_message_is_refused():
    links = memory_links()
    links[0].send([Send(1, "t", np.zeros(3, np.int32))])
    with pytest.raises(LinkError, match=r"int32\[3\], expected int32\[2\]"):
        links[1].receive([_receive(0)])


def test_a_tag_is_never_sent_twice():
    links = memory_links()
    links[0].send([Send(1, "t", np.zeros(2, np.int32))])
    with pytest.raises(LinkError, match="twice"):
        links[0].send([Send(1, "t", np.zeros(2, np.int32))])


def test_a_silent_party_times_out():
    with pytest.raises(LinkError, match=r"waited 0.05 s for 't' from party 0"):
        memory_links(timeout=0.05)[1].receive([_receive(0)])


def test_the_failure_of_one_party_stops_the_others_at_once():
    def program(party, link):
        if party.rank == 1:
            raise ZeroDivisionError("party 1 is broken")
        link.receive([_receive(1)])

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="party 1 is broken"):
        run_three(program, timeout=30)
    assert time.monotonic() - started < 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("party-")]


def _swap(party, name, value):
    other = (party.rank + 1) % 3
    dtype = np.dtype(np.int64)
    (received,) = yield Round(
        (party.send(other, name, np.asarray([value])),),
        (party.expect((party.rank + 2) % 3, name, (1,), dtype),),
    )
    return int(received[0])


def _twice(party, name, value):
    value = yield from _swap(party.at("first"), name, value)
    return (yield from _swap(party.at("second"), name, value))


def test_parallel_protocols_share_rounds_and_messages():
    def program(party: Party, link):
        both = run(link, parallel(_swap(party, "a", party.rank), _twice(party, "b", 10 * party.rank)))
        return both

    results, traffic = run_three(program)
    assert results == [[2, 10], [0, 20], [1, 0]]
    assert [each.rounds for each in traffic] == [2, 2, 2]
    assert [each.messages for each in traffic] == [2, 2, 2]
    assert [each.bytes_sent for each in traffic] == [24, 24, 24]
