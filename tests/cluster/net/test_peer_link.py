"""Tests the link between parties: kernels run over it, and every fault of a peer ends in a LinkError."""

import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from jax.experimental import enable_x64

from ditto_kernels.activation.gelu import GELU_KERNEL
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.link import LinkError, Receive, Send
from ditto_kernels.protocol.party import Party, run
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.protocol.three_threads import fresh_keys
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import reconstruct, share
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.wire import pack

INT = np.dtype(np.int64)
X = np.arange(4, dtype=INT)


def connected() -> list[PeerLink]:
    channels: list[dict[int, Channel]] = [{}, {}, {}]
    for a, b in itertools.combinations(range(3), 2):
        for rank, peer, sock in zip((a, b), (b, a), socket.socketpair(), strict=True):
            channels[rank][peer] = Channel(sock, f"party {peer}", 5.0, 1 << 24)
    links = [PeerLink(rank, each, "s", 10.0, 1 << 24) for rank, each in enumerate(channels)]
    for link in links:
        link.begin(1)
    return links


class Fake:
    """Plays a party 0 that sends any bytes to the real link of party 1."""

    def __init__(self, timeout: float) -> None:
        self.socket, other = socket.socketpair()
        self.quiet, third = socket.socketpair()  # party 2 sends nothing
        channels = {0: Channel(other, "party 0", 0.5, 1 << 16), 2: Channel(third, "party 2", 0.5, 1 << 16)}
        self.link = PeerLink(1, channels, "s", timeout, 1 << 17)
        self.link.begin(1)

    def message(self, number=0, tag="/t", array=X, request=1, session="s", clock=1, kind="tensors"):
        facts = {"session": session, "request": request, "clock": clock}
        return pack(kind, number, facts, [(tag, array)]) + array.tobytes()

    def receive(self, tag="/t"):
        return self.link.lane().receive([Receive(0, tag, (4,), INT)])[0]


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake(timeout=1.0)
    yield made
    made.link.close("over")
    made.socket.close()
    made.quiet.close()


def test_a_kernel_runs_over_it_and_is_counted_as_in_memory():
    fxp, out = Fxp(32, 12), Fxp(32, 12)
    x = np.linspace(-6, 6, 50)
    shared, keys, links = share(encode(x, fxp), fxp, os.urandom), fresh_keys(), connected()
    lanes = [link.lane() for link in links]
    results: list = [None] * 3

    def work(rank: int) -> None:
        with enable_x64():
            party = Party(rank, Randomness(keys[rank], "s", "1"))
            results[rank] = run(lanes[rank], GELU_KERNEL.run(party, shared[rank], out=out))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    bound = GELU_KERNEL.error(Spec(x.shape, fxp), out=out)
    assert (
        np.abs(decode(reconstruct(results), out) - GELU_KERNEL.reference(decode(encode(x, fxp), fxp))).max()
        <= bound
    )
    online, offline = GELU_KERNEL.cost(Spec(x.shape, fxp), out=out).by_rank(2)
    assert tuple(link.traffic().bytes_sent for link in links) == online
    assert tuple(link.traffic().offline_bytes for link in links) == offline
    assert (
        max(lane.traffic().rounds for lane in lanes) == GELU_KERNEL.cost(Spec(x.shape, fxp), out=out).rounds
    )
    for link in links:
        link.finish()
        link.close("over")


def test_both_directions_at_once_with_more_than_the_sockets_hold():
    links = connected()
    big = np.arange(1 << 20, dtype=INT)
    received = {}

    def work(rank: int) -> None:
        lane = links[rank].lane()
        lane.send([Send(1 - rank, "/big", big + rank)])
        received[rank] = lane.receive([Receive(1 - rank, "/big", big.shape, INT)])[0]

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert np.array_equal(received[0], big + 1)
    assert np.array_equal(received[1], big)


def test_exchanged_facts_are_not_counted():
    links = connected()
    learned = {}
    threads = [
        threading.Thread(target=lambda r=rank: learned.update({r: links[r].exchange("f", {"rank": r})}))
        for rank in range(3)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert learned[0] == {1: {"rank": 1}, 2: {"rank": 2}}
    assert links[0].traffic().messages == 0


def test_a_sound_message_arrives(fake):
    fake.socket.sendall(fake.message())
    assert np.array_equal(fake.receive(), X)
    fake.link.finish()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: [f.message()[:-8]], "sent nothing for 0.5 s"),  # truncated, and the connection stays open
        (lambda f: [f.message()[:10]], "sent nothing for 0.5 s"),
        (lambda f: [f.message(0, "/u"), f.message(0, "/u")], "repeated"),  # the same bytes again
        (lambda f: [f.message(0, "/u"), f.message(1, "/u")], "sent '.*' twice"),
        (lambda f: [f.message(1)], "reordered"),
        (lambda f: [bytes([f.message()[0] ^ 1]) + f.message()[1:]], "no message of this protocol"),
        (lambda f: [f.message()[:7] + b"\xff" + f.message()[8:]], "checksum"),
        (lambda f: [f.message()[:50] + b"\xff" + f.message()[51:]], "checksum"),
        (lambda f: [f.message(array=np.zeros(1 << 14, INT))], "announces"),  # oversized
        (lambda f: [f.message(session="other")], "another session"),
        (lambda f: [f.message(request=5)], "during request 1"),
        (lambda f: [f.message(request="1")], "without a clock"),
        (lambda f: [f.message(clock=None)], "without a clock"),
        (lambda f: [f.message(kind="run")], "kind 'run'"),
        (lambda f: [f.message(array=np.zeros(3, INT))], r"expected int64\[4\]"),
        (lambda f: [f.message(array=np.zeros(4, np.int32))], "int32"),
        (lambda f: [f.message(0, "/unknown")], "for which nobody asked"),
        (lambda f: [f.message(n, f"/u{n}", np.zeros(1 << 12, INT)) for n in range(5)], "ahead of their use"),
        (lambda f: [pack("abort", 0, {"reason": "disk"})], "party 0 stopped: disk"),
    ],
    ids=range(19),
)
def test_what_a_peer_sends_wrongly_ends_in_a_clear_error(fake, spoil, reason):
    for data in spoil(fake):
        fake.socket.sendall(data)
    with pytest.raises(LinkError, match=reason):
        fake.receive()


@pytest.mark.parametrize("sent", [0, 10, 60])
def test_a_peer_that_goes_away(fake, sent):
    fake.socket.sendall(fake.message()[:sent])
    fake.socket.close()
    with pytest.raises(LinkError, match=r"party 0(: connection lost| closed the connection)"):
        fake.receive()


def test_a_silent_peer_is_waited_for_so_long(fake):
    with pytest.raises(LinkError, match=r"waited 1 s for ./t. from party 0"):
        fake.receive()


def test_a_slow_peer_is_waited_for_as_long_as_its_bytes_arrive(fake):
    data = fake.message()

    def slowly():
        for start in range(0, len(data), 20):
            fake.socket.sendall(data[start : start + 20])
            time.sleep(0.3)

    thread = threading.Thread(target=slowly)
    thread.start()
    assert np.array_equal(fake.receive(), X)
    thread.join()
    assert len(data) > 20 * 4  # it took longer than the timeout of 1 s


def test_a_peer_that_takes_nothing_is_found_when_sending(fake):
    with pytest.raises(LinkError, match=r"party 0 took nothing for 0.5 s"):
        fake.link.lane().send([Send(0, "/t", np.zeros(1 << 22, INT))])


def test_a_tensor_that_no_step_expects_is_found_at_the_end(fake):
    fake.socket.sendall(fake.message(0, "/extra") + fake.message(1))
    fake.receive()
    with pytest.raises(LinkError, match="'/extra', which no step of the plan expects"):
        fake.link.finish()
