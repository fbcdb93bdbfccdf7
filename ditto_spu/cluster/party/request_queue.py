"""Queues requests at one party: clients take turns, within a limit on the bytes of their inputs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.party.quota import Quota


@dataclass(frozen=True, eq=False)
class _Ticket:
    """One request that waits for its turn."""

    client: str


class Turns:
    """Lets at most `running` requests compute at a time, and `of_client` of one client.

    `inputs` counts the bytes of their inputs. Among clients that wait, the one whose last turn is the longest
    ago is next, and among the requests of one client the first. So a client that asks for much does not keep
    the others waiting for all of it.
    """

    def __init__(self, running: int, of_client: int, inputs: Quota) -> None:
        self._max_running = running
        self._of_client = of_client
        self._active_of: Counter[str] = Counter()
        self._inputs = inputs
        self._changed = threading.Condition()
        self._line: list[_Ticket] = []
        self._turns = 0
        self._last: dict[str, int] = {}  # the number of each client's last turn
        self._active = 0
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
    def admitted(self, client: str, nbytes: int) -> Iterator[None]:
        """Reserve room for a request's inputs until it is done. Raises ClusterError if there is none."""
        with self._inputs.taken(client, nbytes):
            with self._changed:
                self._admitted += 1
            try:
                yield
            finally:
                with self._changed:
                    self._admitted -= 1

    @contextlib.contextmanager
    def turn(
        self, client: str, timeout: float, failure: Callable[[], BaseException | None]
    ) -> Iterator[None]:
        """Wait for the turn to compute, and keep it until the context ends.

        Raises LinkError after `timeout` seconds, or when `failure` returns why the session is over.
        """
        ticket, deadline = _Ticket(client), time.monotonic() + timeout
        with self._changed:
            self._line.append(ticket)
            try:
                while self._active >= self._max_running or self._next() is not ticket:
                    if (over := failure()) is not None:
                        raise LinkError(str(over))
                    if time.monotonic() > deadline:
                        raise LinkError(f"the request waited {timeout:g} s for its turn")
                    self._changed.wait(0.1)
                self._active += 1
                self._active_of[client] += 1
                self._turns += 1
                self._last[client] = self._turns
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
        try:
            with self._counted():
                yield
        finally:
            with self._changed:
                self._active_of[client] -= 1
                self._changed.notify_all()

    def _next(self) -> _Ticket | None:
        may = [ticket for ticket in self._line if self._active_of[ticket.client] < self._of_client]
        return min(may, key=lambda ticket: self._last.get(ticket.client, 0), default=None)

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
