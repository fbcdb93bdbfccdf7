"""Carries connections between the parties' SPU processes as messages of the session.

SPU's processes connect to Unix sockets in a folder that only this user may enter. One of these sockets stands
for each peer. Its bytes go through the session's own channel to that peer, which hands them to its SPU
process. So SPU listens on no network, and its bytes are authenticated and encrypted like all others.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from ditto_kernels.protocol.link import LinkError
from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.net.peer_link import PeerLink
from ditto_spu.cluster.net.wire import Message

_CHUNK = 1 << 18
_STREAMS = (
    64  # connections of SPU in one session; SPU makes one per peer and direction, and another after a failure
)
Stream = tuple[int, int, int]  # the peer, the party that opened the connection, its number there


class Tunnels:
    """Holds one party's ends of the tunnels to both peers."""

    def __init__(self, link: PeerLink, folder: Path, timeout: float) -> None:
        """Listen at a Unix socket in `folder` for each peer.

        `timeout` is the number of seconds that this party's SPU process may leave bytes unread.
        """
        self._link = link
        self._timeout = timeout
        self._paths = [folder / f"party{rank}" for rank in range(PARTIES)]
        self._lock = threading.Lock()
        self._streams: dict[Stream, socket.socket] = {}
        self._listeners: list[socket.socket] = []
        self._opened = 0
        self._closed = False
        for peer in range(PARTIES):
            if peer != link.rank:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind(str(self._paths[peer]))
                listener.listen()
                self._listeners.append(listener)
                threading.Thread(target=self._accept, args=(peer, listener), daemon=True).start()
        link.tunnel = self._arrived

    @property
    def addresses(self) -> list[str]:
        """Return, by rank, where this party's SPU process listens and where it finds the others."""
        return [f"unix:{path}" for path in self._paths]

    def close(self) -> None:
        """End all connections, and wake the threads that serve them."""
        with self._lock:
            self._closed = True
            sockets = [*self._listeners, *self._streams.values()]
            self._streams.clear()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, peer: int, listener: socket.socket) -> None:
        while True:
            try:
                made, _ = listener.accept()
            except OSError:
                return  # the listener was closed
            with self._lock:
                self._opened += 1
                stream = (peer, self._link.rank, self._opened)
            if not self._keep(stream, made):
                made.close()
                continue
            self._send(stream, {"open": True}, b"")
            threading.Thread(target=self._pump, args=(stream, made), daemon=True).start()

    def _keep(self, stream: Stream, made: socket.socket) -> bool:
        made.settimeout(None)
        with self._lock:
            if self._closed or len(self._streams) >= _STREAMS:
                return False
            self._streams[stream] = made
            return True

    def _pump(self, stream: Stream, made: socket.socket) -> None:
        """Send bytes from the local connection to the peer until the connection ends."""
        with contextlib.suppress(OSError, LinkError):
            while data := made.recv(_CHUNK):
                self._send(stream, {}, data)
        with contextlib.suppress(LinkError):
            self._send(stream, {"end": True}, b"")
        self._drop(stream)

    def _send(self, stream: Stream, facts: Mapping[str, bool], data: bytes) -> None:
        peer, opener, number = stream
        self._link.send_through(peer, {"opener": opener, "stream": number, **facts}, data)

    def _drop(self, stream: Stream) -> None:
        with self._lock:
            made = self._streams.pop(stream, None)
        if made is not None:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()

    def _arrived(self, peer: int, message: Message) -> None:
        """Handle a message of a peer. Raises LinkError if it is malformed.

        A connection that this party refuses ends at the peer too.
        """
        facts, arrays = message.facts, [array for _, array in message.tensors]
        opener, number = facts.get("opener"), facts.get("stream")
        if opener not in (peer, self._link.rank) or type(number) is not int or len(arrays) != 1:
            raise LinkError(f"party {peer} sent malformed bytes for SPU")
        stream = (peer, int(opener), number)
        if facts.get("end"):
            self._drop(stream)
            return
        if facts.get("open"):
            self._connect(stream)
            return
        with self._lock:
            made = self._streams.get(stream)
        if made is None:
            return  # the connection has ended here, and the peer will hear of it
        try:
            made.settimeout(self._timeout)
            made.sendall(arrays[0].tobytes())
        except OSError:
            self._drop(stream)

    def _connect(self, stream: Stream) -> None:
        if stream[1] != stream[0]:
            raise LinkError(f"party {stream[0]} opened a connection of SPU in another's name")
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.connect(str(self._paths[self._link.rank]))
        except OSError:  # SPU does not listen here yet, and the peer's SPU will try again
            made.close()
            self._send(stream, {"end": True}, b"")
            return
        if not self._keep(stream, made):
            made.close()
            self._send(stream, {"end": True}, b"")
            return
        threading.Thread(target=self._pump, args=(stream, made), daemon=True).start()
