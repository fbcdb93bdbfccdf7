"""Tests that the relay passes on bytes unchanged, the end of a stream, and the loss of either side."""

import contextlib
import random
import select
import socket
import threading

import pytest

from ditto_spu.errors import PartyError
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.network.process import emulated, free_addresses, relay_process
from ditto_spu.network.relay import Relay, Route

FAST = Network("", 20e9, 0.0)
NEAR = Network("", 400e6, 2e-3)


class Running:
    """Runs a relay in a thread, with a listener behind it."""

    def __init__(self, network: Network) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        port = self.listener.getsockname()[1]
        unused = int(free_addresses(1)[0].rpartition(":")[2])
        routes = [Route("a", "b", "127.0.0.1", port), Route("a", "c", "127.0.0.1", unused)]
        self.relay = Relay(routes, network)
        self._stop, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self.relay.step(self._end.fileno()):
            pass

    def dial(self, route: int = 0) -> socket.socket:
        host, _, port = self.relay.addresses[route].rpartition(":")
        return socket.create_connection((host, int(port)), timeout=10)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        near = self.dial()
        far, _ = self.listener.accept()
        far.settimeout(10)
        return near, far

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        self._end.close()
        self.relay.close()
        self.listener.close()


@pytest.fixture(params=[FAST, NEAR], ids=["fast", "near"])
def running(request):
    made = Running(request.param)
    yield made
    made.close()


def received(sock: socket.socket) -> bytes:
    found = b""
    while piece := sock.recv(1 << 16):
        found += piece
    return found


def test_bytes_pass_unchanged_in_both_directions_at_once(running):
    near, far = running.pair()
    there, back = (random.Random(seed).randbytes(3_000_000) for seed in (1, 2))
    found: dict[str, bytes] = {}

    def work(name, sock, data):
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        found[name] = received(sock)
        sender.join()

    threads = [threading.Thread(target=work, args=each) for each in (("n", near, there), ("f", far, back))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found["f"] == there
    assert found["n"] == back


def test_one_direction_may_end_before_the_other(running):
    near, far = running.pair()
    near.sendall(b"question")
    near.shutdown(socket.SHUT_WR)
    assert received(far) == b"question"
    far.sendall(b"answer")
    far.close()
    assert received(near) == b"answer"


def test_where_nobody_listens_a_connection_is_reset(running):
    with pytest.raises(ConnectionError), contextlib.closing(running.dial(1)) as sock:
        sock.sendall(b"hello")
        if sock.recv(1) == b"":
            raise AssertionError("an end, not a reset")


def test_a_reset_reaches_the_other_side(running):
    near, far = running.pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with pytest.raises(ConnectionError):
        assert near.recv(1) != b""


def test_connections_do_not_disturb_each_other(running):
    first, second = running.pair(), running.pair()
    first[0].sendall(b"1")
    second[0].sendall(b"2")
    first[0].close()
    assert received(first[1]) == b"1"
    assert second[1].recv(1) == b"2"
    second[1].sendall(b"3")
    assert second[0].recv(1) == b"3"


def test_a_receiver_that_reads_nothing_holds_the_sender_back(running):
    near, far = running.pair()
    near.setblocking(False)
    sent, data = 0, bytes(1 << 20)
    with contextlib.suppress(BlockingIOError):
        while select.select([], [near], [], 0.5)[1]:  # until neither the kernel nor the relay takes more
            sent += near.send(data)
            assert sent < 256 << 20
    near.setblocking(True)
    sender = threading.Thread(target=lambda: (near.sendall(b"end"), near.shutdown(socket.SHUT_WR)))
    sender.start()
    assert len(received(far)) == sent + 3
    sender.join()


def test_every_host_reaches_the_others_through_entries_of_its_own():
    addresses = free_addresses(3)
    with emulated(NEAR, addresses, ("client",)) as reached:
        entries = [each for host in reached for each in reached[host] if each not in addresses]
    assert len(set(entries)) == len(entries) == 9
    for rank in range(3):
        assert reached[f"party{rank}"][rank] == addresses[rank]
    with emulated(LOOPBACK, addresses, ("client",)) as reached:
        assert set(map(tuple, reached.values())) == {tuple(addresses)}


def test_a_relay_that_does_not_start_is_an_error():
    with (
        pytest.raises(PartyError, match="the relay ended with exit code"),
        relay_process([("not", "a route")], NEAR),  # type: ignore[list-item]
    ):
        pass
