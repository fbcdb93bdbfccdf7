"""Sends and receives whole messages over one connection, TLS or plain.

Messages pass in both directions at once. Every wait is bounded, unless the caller asks for none.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.wire import (
    PREFIX_BYTES,
    Message,
    Named,
    pack,
    read_header,
    read_prefix,
)

_CHUNK = 1 << 18  # bytes per call of the socket; the other direction gets its turn between two calls
_JOINED = 1 << 16  # up to so many bytes, a copy that leaves in one call is cheaper than one call per tensor
_LOOK = 1.0  # seconds after which a waiting thread checks whether the connection was closed


class Channel:
    """Carries messages over a connected socket.

    One thread may receive while another sends. OpenSSL allows one call at a time on a connection. Therefore
    the socket does not block, calls take turns under a lock, and threads wait outside the lock.

    peer: the name of the other end, for error messages.
    stall: seconds after which the connection has failed, if no byte arrives in the middle of a message or
        there is no room to send.
    max_body: the largest body of a received message, in bytes.
    """

    def __init__(self, sock: socket.socket, peer: str, stall: float, max_body: int) -> None:
        sock.setblocking(False)
        self.peer = peer
        self._socket = sock
        self._stall = stall
        self._max_body = max_body
        self._turn = threading.Lock()
        self._sending = threading.Lock()
        self._sent = 0
        self._received = 0
        self._closed = False
        self._buffer = memoryview(bytearray(_JOINED))
        self._arrived = self._buffer[:0]  # the bytes that came with earlier ones and were not read yet
        self.heard = time.monotonic()  # when bytes arrived for the last time, also in the middle of a message

    def send(self, kind: str, facts: Mapping[str, Any], tensors: Sequence[Named] = ()) -> None:
        """Send one message. Raises LinkError if the peer is gone, or takes nothing for `stall` seconds."""
        plain = [(name, np.asarray(array, order="C")) for name, array in tensors]
        bodies = [_bytes(array) for _, array in plain]
        with self._sending:
            head = pack(kind, self._sent, facts, plain)
            if sum(map(len, bodies)) <= _JOINED:
                self._write(memoryview(b"".join((head, *bodies))))
            else:
                for each in (memoryview(head), *bodies):
                    self._write(each)
            self._sent += 1

    def receive(self, timeout: float | None) -> Message:
        """Return the next message.

        Raises LinkError if none starts within `timeout` seconds, or if it is malformed. If `timeout` is None,
        the wait for its start has no limit. After a LinkError the connection cannot be used any more.
        """
        start = bytearray(PREFIX_BYTES)
        self._begin(timeout)
        self._read(memoryview(start), timeout)
        try:
            prefix = read_prefix(bytes(start), self._received, self._max_body)
            data = bytearray(prefix.header_bytes)
            self._read(memoryview(data), self._stall)
            facts, specs = read_header(prefix, bytes(data))
        except LinkError as error:
            raise LinkError(f"{self.peer}: {error}") from None
        self._received += 1
        tensors = []
        for spec in specs:
            array = np.empty(spec.shape, spec.dtype)
            self._read(_bytes(array), self._stall)
            tensors.append((spec.name, array))
        return Message(prefix.kind, facts, tuple(tensors))

    def finish(self) -> None:
        """End the sending direction. The peer still reads everything sent so far, and may go on sending."""
        with contextlib.suppress(OSError):  # the connection may have ended already
            socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def waiting(self) -> bool:
        """Return whether bytes have arrived that were not received, or the connection has ended."""
        if self._arrived:
            return True
        poll = select.poll()
        try:
            poll.register(self._socket.fileno(), select.POLLIN)
        except (ValueError, OSError):
            return True
        return bool(poll.poll(0))

    def close(self) -> None:
        """End the connection and wake every thread that waits on it."""
        self._closed = True
        with contextlib.suppress(OSError):  # the connection may have ended already
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        with self._turn:
            self._socket.close()

    def _begin(self, timeout: float | None) -> None:
        """Wait for the start of a message. Most often it has not come, so the socket need not be asked."""
        with self._turn:
            decrypted = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        if not self._arrived and not decrypted:
            self._wait(select.POLLIN, None if timeout is None else time.monotonic() + timeout, timeout)

    def _read(self, view: memoryview, timeout: float | None) -> None:
        """Fill the view. Small pieces come through a buffer, by one call of the socket for many."""
        while view:
            if not self._arrived and len(view) < len(self._buffer):
                self._arrived = self._buffer[: self._receive(self._buffer, timeout)]
            if self._arrived:
                count = min(len(view), len(self._arrived))
                view[:count], self._arrived = self._arrived[:count], self._arrived[count:]
            else:
                count = self._receive(view[:_CHUNK], timeout)
            view, timeout = view[count:], self._stall

    def _receive(self, view: memoryview, timeout: float | None) -> int:
        count = self._call(self._socket.recv_into, view, select.POLLIN, timeout)
        if count == 0:
            raise LinkError(f"{self.peer} closed the connection")
        self.heard = time.monotonic()
        return count

    def _write(self, view: memoryview) -> None:
        while view:
            view = view[self._call(self._socket.send, view[:_CHUNK], select.POLLOUT, self._stall) :]

    def _call(
        self, action: Callable[[memoryview], int], view: memoryview, direction: int, timeout: float | None
    ) -> int:
        """Repeat a call of the socket until it moves bytes. Waits for at most `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            wanted = direction
            try:
                with self._turn:
                    return action(view)
            except (BlockingIOError, InterruptedError):
                pass
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                raise LinkError(f"{self.peer} closed the connection") from None
            except ssl.SSLError as error:
                if error.reason == "TLSV1_ALERT_DECODE_ERROR":  # OpenSSL's name for an end without notice
                    raise LinkError(f"{self.peer} closed the connection") from None
                raise LinkError(f"{self.peer}: TLS refused: {tls_reason(error)}") from None
            except (OSError, ValueError) as error:  # a closed SSL socket raises ValueError
                what = "the connection was closed here" if self._closed else f"connection lost ({error})"
                raise LinkError(f"{self.peer}: {what}") from None
            self._wait(wanted, deadline, timeout)

    def _wait(self, wanted: int, deadline: float | None, timeout: float | None) -> None:
        """Wait until the socket is ready.

        Raises LinkError after the deadline, or when the connection was closed at this end.
        """
        while True:
            poll = select.poll()
            try:
                poll.register(self._socket.fileno(), wanted)
            except (ValueError, OSError):
                raise LinkError(f"{self.peer}: the connection was closed here") from None
            left = _LOOK if deadline is None else max(0.0, deadline - time.monotonic())
            # Wait in short pieces: after `register` the socket may be closed, and another may get its number.
            if poll.poll(min(left, _LOOK) * 1000):
                return
            if deadline is not None and time.monotonic() >= deadline:
                what = "sent nothing" if wanted == select.POLLIN else "took nothing"
                raise LinkError(f"{self.peer} {what} for {timeout:g} s")


def tls_reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason without its file names."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    return (error.reason or str(error)).lower().replace("_", " ")


def _bytes(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else memoryview(b"")
