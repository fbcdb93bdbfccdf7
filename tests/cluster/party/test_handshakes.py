"""Tests that silent connections do not keep others out."""

import socket

import numpy as np
import pytest

from ditto_spu import connect, secure
from ditto_spu.cluster.net.cluster_file import load_cluster
from ditto_spu.cluster.party.handshakes import PLACES, Handshakes

X = np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32)


def test_the_oldest_connection_makes_room():
    pairs, places = [socket.socketpair() for _ in range(4)], Handshakes(2)
    numbers = [places.enter(mine) for mine, _ in pairs[:2]]
    places.leave(numbers[0])
    places.leave(numbers[0])
    assert places.ended == 0
    for mine, _ in pairs[2:]:
        places.enter(mine)
    assert places.ended == 1
    assert pairs[1][1].recv(1) == b""  # it was ended
    for mine, other in (pairs[0], pairs[2], pairs[3]):
        mine.sendall(b"x")
        assert other.recv(1) == b"x"
    for each in (each for pair in pairs for each in pair):
        each.close()


def test_silent_connections_keep_nobody_out(trial):
    trial.serve()
    silent = [
        socket.create_connection(address)
        for address in load_cluster(trial.file).addresses
        for _ in range(PLACES + 8)
    ]
    with connect(trial.file, "alice") as client:
        assert client.run(secure(lambda x: x * x), X).outputs == pytest.approx(X * X, abs=0.01)
    assert all(server._handshakes.ended >= 8 for server in trial.servers)
    for each in silent:
        each.close()
