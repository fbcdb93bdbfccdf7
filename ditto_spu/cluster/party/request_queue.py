"""Queues requests at one party: clients take turns, within a limit on the bytes of their inputs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from ditto_spu.cluster.party.line import Line
from ditto_spu.cluster.party.quota import Quota


class Turns:
    """Lets at most `running` requests compute at a time, and `of_client` of one client, in turns (`Line`).

    `inputs` counts the bytes of the inputs of all requests that are admitted.
    """

    def __init__(self, running: int, of_client: int, inputs: Quota) -> None:
        self._line = Line(running, of_client)
        self._inputs = inputs
        self._lock = threading.Lock()
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
            with self._lock:
                self._admitted += 1
            try:
                yield
            finally:
                with self._lock:
                    self._admitted -= 1

    @contextlib.contextmanager
    def turn(
        self, client: str, timeout: float, failure: Callable[[], BaseException | None]
    ) -> Iterator[None]:
        """Wait for the turn to compute, and keep it until the context ends.

        Raises LinkError after `timeout` seconds, or when `failure` returns why the session is over.
        """
        with self._line.turn(client, timeout, failure), self.follow():
            yield

    @contextlib.contextmanager
    def follow(self) -> Iterator[None]:
        """Count a request as computing, without a wait, because party 0 has started it."""
        with self._lock:
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1
