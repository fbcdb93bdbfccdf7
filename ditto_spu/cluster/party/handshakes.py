"""Bounds the connections that have not proven their identity yet. The oldest ones make room for new ones."""

from __future__ import annotations

import contextlib
import socket
import threading

PLACES = 64


class Handshakes:
    """Holds the places of connections during their handshakes.

    Whoever reaches the port may open connections and stay silent. If all places are taken, the connection
    that has been there for the longest time is ended. An honest handshake takes milliseconds, so it is rarely
    that one.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._open: dict[int, socket.socket] = {}  # in the order of their arrival
        self._next = 0
        self._ended = 0
        self._lock = threading.Lock()

    @property
    def ended(self) -> int:
        """Return the number of connections that had to make room."""
        return self._ended

    @property
    def full(self) -> bool:
        """Return whether all places are taken. The next connection then ends the oldest one."""
        return len(self._open) >= self._places

    def enter(self, sock: socket.socket) -> int:
        """Give a connection a place, and return the place's number. Raises OSError if it is gone."""
        handle = sock.dup()  # the socket itself changes hands during the handshake
        with self._lock:
            self._next += 1
            self._open[self._next] = handle
            if len(self._open) > self._places:
                self._end(next(iter(self._open)))
                self._ended += 1
            return self._next

    def leave(self, number: int) -> None:
        """Free a place, because the connection has proven its identity or has ended."""
        with self._lock:
            handle = self._open.pop(number, None)
        if handle is not None:
            handle.close()

    def _end(self, number: int) -> None:
        handle = self._open.pop(number)
        with contextlib.suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)
        handle.close()
