"""Lets clients take turns at what only a few of them can do at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ditto_kernels.protocol.link import LinkError

_HALF = 60.0  # seconds after which time that a client had counts half


@dataclass(frozen=True, eq=False)
class _Ticket:
    """One of those that wait for a turn."""

    client: str


class Line:
    """Lets at most `places` go on at a time, and `of_client` of one client.

    Among clients that wait, the one that had the least time lately is next, and among those who wait for one
    client the first. So a client that asks for much, or for what takes long, does not keep the others waiting
    for all of it. `clock` returns the present time in seconds.
    """

    def __init__(self, places: int, of_client: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._places, self._of_client = places, of_client
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._active_of: Counter[str] = Counter()
        self._had: dict[str, tuple[float, float]] = {}  # by client: seconds, and when they were counted

    @property
    def active(self) -> int:
        """Return the number of those that have their turn."""
        return self._active_of.total()

    @property
    def waiting(self) -> int:
        """Return the number of those that wait for their turn."""
        return len(self._waiting)

    @contextlib.contextmanager
    def turn(
        self, client: str, timeout: float, failure: Callable[[], BaseException | None]
    ) -> Iterator[None]:
        """Wait for a turn of the client, and keep it until the context ends.

        Raises LinkError after `timeout` seconds, or when `failure` returns why nobody waits any more.
        """
        ticket, deadline = _Ticket(client), self._clock() + timeout
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self.active >= self._places or self._next() is not ticket:
                    if (over := failure()) is not None:
                        raise LinkError(str(over))
                    if self._clock() > deadline:
                        raise LinkError(f"the request waited {timeout:g} s for its turn")
                    self._changed.wait(0.1)
                self._active_of[client] += 1
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        started = self._clock()
        try:
            yield
        finally:
            with self._changed:
                self._active_of[client] -= 1
                now = self._clock()
                self._had[client] = (self._lately(client, now) + now - started, now)
                self._changed.notify_all()

    def _next(self) -> _Ticket | None:
        now = self._clock()
        may = [each for each in self._waiting if self._active_of[each.client] < self._of_client]
        return min(
            may,
            key=lambda each: (self._active_of[each.client], self._lately(each.client, now)),
            default=None,
        )

    def _lately(self, client: str, now: float) -> float:
        """Return the seconds that a client had, of which those of long ago count little."""
        seconds, when = self._had.get(client, (0.0, now))
        return float(seconds * 0.5 ** ((now - when) / _HALF))
