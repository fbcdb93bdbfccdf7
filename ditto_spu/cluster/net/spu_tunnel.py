"""Connections between the parties' processes of SPU, carried as messages of the session.

SPU's processes connect to Unix sockets in a folder that this user alone may enter. Behind the socket that
stands for a peer, bytes go through the session's own channel to that peer, which hands them to its process of
SPU. So nothing of SPU listens on a network, and its bytes are authenticated and encrypted like all others.
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
    64  # connections of SPU in one session; it makes one a peer and direction, and anew after a failure
)
Stream = tuple[int, int, int]  # the peer, who opened it, its number there


class Tunnels:
    """One party's ends. `addresses`: by rank, where its process of SPU listens and finds the others."""

    def __init__(self, link: PeerLink, folder: Path, timeout: float) -> None:
        """timeout: seconds that SPU's process may leave bytes unread."""
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
        return [f"unix:{path}" for path in self._paths]

    def close(self) -> None:
        """End all connections and wake the threads that serve them."""
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
                return  # closed
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
        """From the local connection to the peer."""
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
        """What a peer sends. LinkError if it is malformed; a connection that is refused here ends there."""
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
            return  # it has ended here, which the peer will learn
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
        except OSError:  # SPU does not listen yet: the other one will try again
            made.close()
            self._send(stream, {"end": True}, b"")
            return
        if not self._keep(stream, made):
            made.close()
            self._send(stream, {"end": True}, b"")
            return
        threading.Thread(target=self._pump, args=(stream, made), daemon=True).start()
