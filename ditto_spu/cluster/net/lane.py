"""One thread's way over the connections of a session, with a clock and counts of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.link import LinkError, Receive, Send, Traffic, checked
from ditto_spu.cluster.net.wire import Named


class Carrier(Protocol):
    """What a lane needs from the link that carries its messages."""

    rank: int
    expired: BaseException | None  # why nothing more is sent, or None

    def post(self, peer: int, clock: int, tensors: Sequence[Named]) -> None:
        """Send tensors to a peer as one message."""

    def take(self, source: int, tag: str) -> tuple[NDArray[Any], int]:
        """Wait for a tensor. Returns it with the sender's clock."""


class Lane:
    """Implements `Link` for one thread that runs a protocol. Several lanes share the connections.

    Tags tell their messages apart. Each lane counts what it sends, and the rounds of its own protocol by a
    Lamport clock.

    sending, waiting: attributes, the seconds that `send` and `receive` have taken.
    """

    def __init__(self, carrier: Carrier) -> None:
        self.rank = carrier.rank
        self._carrier = carrier
        self._clock = 0
        self._counts = [0, 0, 0, 0]
        self.sending = self.waiting = 0.0

    def send(self, messages: Sequence[Send]) -> None:
        """Send tensors. Those for one peer travel as one message, dealt material as a separate one.

        Raises LinkError if the request has expired. So a protocol ends with its next round, also with one
        in which this party sends and receives nothing.
        """
        if self._carrier.expired is not None:
            raise LinkError(str(self._carrier.expired))
        if not messages:
            return
        started = time.perf_counter()
        groups: dict[tuple[bool, int], list[Named]] = {}
        for each in messages:
            groups.setdefault((each.offline, each.to), []).append((each.tag, np.asarray(each.array)))
        for offline, peer in sorted(groups):
            tensors = groups[offline, peer]
            self._counts[2 * offline] += sum(array.nbytes for _, array in tensors)
            self._counts[1 + 2 * offline] += 1
            self._carrier.post(peer, 0 if offline else self._clock + 1, tensors)
        self.sending += time.perf_counter() - started

    def receive(self, expected: Sequence[Receive]) -> list[NDArray[Any]]:
        """Wait for the tensors and return them in order.

        Raises LinkError if one does not arrive within the link's timeout, or has another shape or dtype.
        """
        started = time.perf_counter()
        taken: list[NDArray[Any]] = []
        clock = self._clock
        for item in expected:
            array, sent_at = self._carrier.take(item.source, item.tag)
            taken.append(checked(item, array))
            clock = max(clock, sent_at)
        self._clock = clock
        self.waiting += time.perf_counter() - started
        return taken

    def start_clock(self) -> None:
        self._clock = 0

    def count_other(self, size: int) -> None:
        """Count a message that SPU's processes send, while this thread waits for them."""
        self._counts[0] += size
        self._counts[1] += 1

    def traffic(self) -> Traffic:
        sent, messages, offline_sent, offline_messages = self._counts
        return Traffic(sent, messages, offline_sent, offline_messages, self._clock)
