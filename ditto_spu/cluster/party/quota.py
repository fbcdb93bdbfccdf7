"""Counts what clients occupy of one limit: one client never gets all of it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

from ditto_spu.errors import ClusterError


class Quota:
    """Holds one limit of a party for all clients together, and a smaller one for each client.

    what: names what is counted, for example "bytes of inputs".
    limit: the name of the limit in the cluster file.
    total: the most of it that all clients have together.
    of_client: the most of it that one client has.
    clients: the number of clients for each of which one is kept, as far as `total` suffices. 0 keeps none.
    """

    def __init__(self, what: str, limit: str, total: int, of_client: int, clients: int = 0) -> None:
        self._what, self._limit = what, limit
        self._total, self._of_client = total, of_client
        self._clients = clients if clients <= total else 0
        self._used: Counter[str] = Counter()
        self._lock = threading.RLock()

    @property
    def used(self) -> int:
        """Return what all clients have together."""
        with self._lock:
            return self._used.total()

    def take(self, client: str, amount: int) -> None:
        """Give a client so much more. Raises ClusterError if that exceeds a limit."""
        with self._lock:
            self.require(client, amount)
            self._used[client] += amount

    def require(self, client: str, amount: int = 1) -> None:
        """Raise ClusterError if a client may not have so much more."""
        with self._lock:
            own, every = self._used[client], self._used.total()
            kept = max(0, self._clients - len(self._used | {client: 1}))
        if amount > self._of_client:
            raise ClusterError(
                f"this request needs {amount} {self._what}, more than the {self._of_client} that one client "
                f"may have: `{self._limit}` and `share` in [limits]"
            )
        if own + amount > self._of_client:
            raise ClusterError(
                f"'{client}' has {own} {self._what} and wants {amount} more, but one client may have "
                f"{self._of_client}: `{self._limit}` and `share` in [limits]; try again later"
            )
        if own and kept and every + amount + kept > self._total:
            raise ClusterError(
                f"'{client}' has {own} {self._what}, and the last {kept} are kept for clients that have "
                f"none: `{self._limit}` in [limits]"
            )
        if every + amount > self._total:
            raise ClusterError(
                f"all clients have {every} {self._what}, and with {amount} more they would exceed "
                f"`{self._limit}` in [limits]: try again later"
            )

    def count(self, client: str, amount: int) -> None:
        """Count what a client has got, whose size was not known before. It may exceed the limit."""
        with self._lock:
            self._used[client] += amount

    def give_back(self, client: str, amount: int) -> None:
        """Take back what a client had."""
        with self._lock:
            self._used[client] -= amount
            if not self._used[client]:
                del self._used[client]

    @contextlib.contextmanager
    def taken(self, client: str, amount: int) -> Iterator[None]:
        """Give a client so much until the context ends. Raises ClusterError if that exceeds a limit."""
        self.take(client, amount)
        try:
            yield
        finally:
            self.give_back(client, amount)
