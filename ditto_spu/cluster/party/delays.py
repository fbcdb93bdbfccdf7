"""Makes clients wait that cost a party time in vain, or that open many sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ditto_spu.errors import ClusterError

_FREE = 1.0  # seconds that a client may owe without a wait
_LONGEST = 2.0  # seconds that a client waits at most: the parties wait for each other when it connects


class Delays:
    """Keeps an account for each client, of seconds that it owes. Each second that passes pays one of them.

    What costs a party time, and may be of no use to anybody, is charged. A client that owes more than a
    second waits before it is served. So whatever it sends takes a small and fixed part of a party's time,
    and who makes a mistake now and then waits for nothing.

    clock, sleep: return the present time in seconds, and wait for so many.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._paid: dict[str, float] = {}  # by client, the time at which it will owe nothing
        self._lock = threading.Lock()

    def charge(self, client: str, seconds: float) -> None:
        """Let a client owe so many seconds more."""
        with self._lock:
            now = self._clock()
            self._paid[client] = max(now, self._paid.get(client, now)) + seconds

    def _owed(self, client: str) -> float:
        with self._lock:
            return max(0.0, self._paid.get(client, 0.0) - self._clock() - _FREE)

    def wait(self, client: str) -> None:
        """Wait until a client owes little, but not for long."""
        if owed := min(_LONGEST, self._owed(client)):
            self._sleep(owed)

    def require(self, client: str) -> None:
        """Raise ClusterError if a client owes much."""
        if owed := self._owed(client):
            raise ClusterError(
                f"plans of '{client}' were refused after long checks: this party checks its next one in "
                f"{owed:.0f} s"
            )
