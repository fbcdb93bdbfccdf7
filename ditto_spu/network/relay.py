"""Relays TCP connections between processes of this machine, as slowly as a network between hosts would.

`python -m ditto_spu.network.relay` reads routes and network as one line of JSON from standard input. It
prints the address at which to connect for each route, and serves until standard input ends. One thread does
all the work by `select`, which can wait for less than a millisecond.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ditto_spu.network.model import Network
from ditto_spu.network.shaping import Uplink

_LINGER_NOT = struct.pack("ii", 1, 0)  # with this option, closing a socket resets its connection
_BUFFER = 1 << 20  # bytes that a socket may receive unread; small, so that a full one holds its sender back
_PR_SET_TIMERSLACK = 29
_OWN_SECONDS = 70e-6  # the relay's own work between reading and passing on, as an echo over it has shown
_PRIORITY = -10  # higher than the processes that it connects, because it stands for a network's hardware


class Route(NamedTuple):
    """Describes connections from host `source` to `target`, which listens at an address of this machine."""

    source: str
    target: str
    host: str
    port: int


@dataclass
class _Flow:
    """Holds one direction of a connection: the bytes that were read and have not arrived yet."""

    connection: _Connection
    source: socket.socket
    sink: socket.socket
    uplink: Uplink  # of the host that sends
    opened: float  # the time before which nothing is sent
    waiting: deque[tuple[float, memoryview]] = field(default_factory=deque)  # (time of arrival, bytes)
    held: int = 0  # bytes in `waiting`
    ended: float | None = None  # the time at which the end of the stream arrives, once it was read
    done: bool = False  # whether the end of the stream was handed over
    blocked: bool = False  # whether the receiver has no room


@dataclass
class _Connection:
    """Holds both directions of a connection between two hosts."""

    flows: list[_Flow] = field(default_factory=list)


class Relay:
    """Listens at one port per route, and passes on the bytes that arrive there. `step` does the due work."""

    def __init__(self, routes: Sequence[Route], network: Network) -> None:
        self._routes = {_listener(): route for route in routes}
        self._uplinks = {host: Uplink(network) for route in routes for host in (route.source, route.target)}
        self._flows: list[_Flow] = []

    @property
    def addresses(self) -> list[str]:
        """Return the host:port that takes each route's connections, in the order of the routes."""
        return ["{}:{}".format(*each.getsockname()[:2]) for each in self._routes]

    def step(self, end: int) -> bool:
        """Wait until work is due, and do it. Returns False once file descriptor `end` is readable."""
        now = time.monotonic()
        due = math.inf
        readers: dict[Any, _Flow] = {}
        blocked: dict[Any, _Flow] = {}
        for flow in self._flows:
            due = min(due, _time(flow))
            if flow.blocked:
                blocked[flow.sink] = flow
            if flow.ended is None and flow.held < flow.uplink.in_flight:
                pause = flow.uplink.pause(now)
                if pause > 0:
                    due = min(due, now + pause)
                else:
                    readers[flow.source] = flow
        readable, writable, _ = select.select(
            [end, *self._routes, *readers],
            [*blocked],
            [],
            max(0.0, due - now) if due < math.inf else None,
        )
        for sink in writable:
            blocked[sink].blocked = False
        for each in readable:
            if each in readers:
                self._read(readers[each])
        now = time.monotonic()
        for flow in [flow for flow in self._flows if _time(flow) <= now]:
            self._deliver(flow)
        for each in readable:
            if each in self._routes:
                self._accept(each)
        return end not in readable

    def close(self) -> None:
        """End all connections."""
        for flow in list(self._flows):
            self._reset(flow.connection)
        for listener in self._routes:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        route = self._routes[listener]
        with contextlib.suppress(BlockingIOError, ConnectionError):
            near, _ = listener.accept()
            far = socket.socket()
            for each in (near, far):
                each.setblocking(False)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            far.connect_ex((route.host, route.port))  # does not wait; sending shows a failure
            # Over a network, TCP's handshake takes a round trip before anything can be sent.
            opened = time.monotonic() + 2 * self._uplinks[route.source].one_way
            connection = _Connection()
            connection.flows = [
                _Flow(connection, near, far, self._uplinks[route.source], opened),
                _Flow(connection, far, near, self._uplinks[route.target], opened),
            ]
            self._flows += connection.flows

    def _read(self, flow: _Flow) -> None:
        uplink = flow.uplink
        try:
            data = flow.source.recv(uplink.turn)
        except BlockingIOError:
            return
        except OSError:
            self._reset(flow.connection)
            return
        arrival = uplink.arrival(max(time.monotonic(), flow.opened), len(data))
        arrival -= min(_OWN_SECONDS, uplink.one_way)
        if data:
            flow.waiting.append((arrival, memoryview(data)))
            flow.held += len(data)
        else:
            flow.ended = arrival

    def _deliver(self, flow: _Flow) -> None:
        """Hand over the bytes that have arrived, and the end of the stream."""
        now = time.monotonic()
        try:
            while flow.waiting and flow.waiting[0][0] <= now and not flow.blocked:
                arrival, data = flow.waiting[0]
                count = flow.sink.send(data)
                flow.held -= count
                if count < len(data):
                    flow.waiting[0] = (arrival, data[count:])
                else:
                    flow.waiting.popleft()
            if flow.ended is not None and not flow.waiting and flow.ended <= now and not flow.done:
                flow.done = True
                flow.sink.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            flow.blocked = True
        except OSError:
            self._reset(flow.connection)
            return
        if all(each.done for each in flow.connection.flows):
            self._forget(flow.connection)

    def _reset(self, connection: _Connection) -> None:
        """Reset both sides, because one is gone or was never there."""
        for flow in connection.flows:
            with contextlib.suppress(OSError):
                flow.sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._forget(connection)

    def _forget(self, connection: _Connection) -> None:
        for flow in connection.flows:
            flow.sink.close()
        self._flows = [flow for flow in self._flows if flow.connection is not connection]


def _time(flow: _Flow) -> float:
    """Return the time from which on this flow has something to hand over. It may be infinite."""
    if flow.blocked or flow.done:
        return math.inf
    if flow.waiting:
        return flow.waiting[0][0]
    return math.inf if flow.ended is None else flow.ended


def _listener() -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # accepted connections inherit it
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    made.setblocking(False)
    return made


def main() -> None:
    """Serve until standard input ends."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    if sys.platform == "linux":  # by default timers come up to 50 µs late, a quarter of a LAN's delay
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    asked = json.loads(sys.stdin.readline())
    relay = Relay([Route(*each) for each in asked["routes"]], Network(*asked["network"]))
    print(json.dumps(relay.addresses), flush=True)
    while relay.step(sys.stdin.fileno()):
        pass
    relay.close()


if __name__ == "__main__":
    main()
