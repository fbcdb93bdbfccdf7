"""Brings together the connections of other parties and this party's side of the sessions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ditto_kernels.protocol.link import LinkError
from ditto_spu.cluster.net.channel import Channel
from ditto_spu.errors import ClusterError

Peer = tuple[Channel, Mapping[str, Any]]  # another party's connection, and its hello


class Meetings:
    """Keeps connections of other parties until this party's side of their session takes them.

    `seconds` is how long either side waits for the other.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._peers: dict[tuple[str, int], Peer] = {}

    @property
    def waiting(self) -> int:
        """Return the number of connections that nobody has taken yet."""
        return len(self._peers)

    def bring(self, session: str, rank: int, made: Channel, hello: Mapping[str, Any]) -> None:
        """Keep the connection of party `rank` until it is taken. Raises ClusterError if nobody takes it."""
        address = (session, rank)
        with self._changed:
            if address in self._peers:
                raise ClusterError(f"'party{rank}' has connected for this session already")
            self._peers[address] = (made, hello)
            self._changed.notify_all()
            taken = self._changed.wait_for(
                lambda: self._peers.get(address, (None,))[0] is not made, self._seconds
            )
            if not taken:
                del self._peers[address]
        if not taken:
            raise ClusterError("no client has opened this session here")

    def take(self, session: str, rank: int, failure: Callable[[], BaseException | None]) -> Peer:
        """Wait for the connection that party `rank` makes for this session, and return it.

        Raises LinkError if it does not come in time, or when `failure` returns why nobody waits any more.
        """
        deadline = time.monotonic() + self._seconds
        with self._changed:
            while (session, rank) not in self._peers:
                if (over := failure()) is not None:
                    raise over
                if time.monotonic() > deadline:
                    raise LinkError(
                        f"party {rank} has not connected within {self._seconds:g} s: is it running?"
                    )
                self._changed.wait(0.1)
            found = self._peers.pop((session, rank))
            self._changed.notify_all()
            return found
