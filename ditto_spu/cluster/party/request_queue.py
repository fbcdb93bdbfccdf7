"""Queues requests at one party: first come, first served, within a limit on their bytes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from ditto_kernels.protocol.link import LinkError
from ditto_spu.errors import ClusterError


class Turns:
    """Lets at most `running` requests compute at a time, with at most `max_bytes` of inputs in all."""

    def __init__(self, running: int, max_bytes: int) -> None:
        self._max_running = running
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._active = 0
        self._bytes = 0
        self._admitted = 0

    @property
    def queued(self) -> int:
        """Return the number of requests that are admitted and do not compute yet."""
        return self._admitted - self._active

    @property
    def running(self) -> int:
        """Return the number of requests that compute."""
        return self._active

    @contextlib.contextmanager
    def admitted(self, nbytes: int) -> Iterator[None]:
        """Reserve room for a request's inputs until it is done. Raises ClusterError if there is none."""
        with self._changed:
            if nbytes > self._max_bytes:
                raise ClusterError(
                    f"the inputs of this request fill {nbytes} bytes, more than `queued_mb` in [limits]"
                )
            if self._bytes + nbytes > self._max_bytes:
                raise ClusterError(
                    f"{self._admitted} requests wait with {self._bytes} bytes of inputs; with this one's "
                    f"{nbytes} they would exceed `queued_mb` in [limits]: try again later"
                )
            self._bytes += nbytes
            self._admitted += 1
        try:
            yield
        finally:
            with self._changed:
                self._bytes -= nbytes
                self._admitted -= 1

    @contextlib.contextmanager
    def turn(self, timeout: float, failure: Callable[[], BaseException | None]) -> Iterator[None]:
        """Wait for the turn to compute, and keep it until the context ends.

        Raises LinkError after `timeout` seconds, or when `failure` returns why the session is over.
        """
        ticket, deadline = object(), time.monotonic() + timeout
        with self._changed:
            self._line.append(ticket)
            try:
                while self._active >= self._max_running or self._line[0] is not ticket:
                    if (over := failure()) is not None:
                        raise LinkError(str(over))
                    if time.monotonic() > deadline:
                        raise LinkError(f"the request waited {timeout:g} s for its turn")
                    self._changed.wait(0.1)
                self._active += 1
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
        with self._counted():
            yield

    @contextlib.contextmanager
    def follow(self) -> Iterator[None]:
        """Count a request as computing, without a wait, because party 0 has started it."""
        with self._changed:
            self._active += 1
        with self._counted():
            yield

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()
