"""When bytes arrive that a host sends: its link serialises them, then they travel. No clock of its own."""

from __future__ import annotations

from ditto_spu.network.model import Network

# A link takes bytes of its connections in turn, about so much at a time; what waits beyond that stays with
# the sender.
TURN_SECONDS = 1e-3
BACKLOG_SECONDS = 4e-3
_LEAST, _MOST = 1 << 14, 1 << 18


class Uplink:
    """The link by which one host sends to all others, in the order of arrival.

    Times are seconds of the caller's clock.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._free = float("-inf")  # when the last byte given so far has left

    @property
    def turn(self) -> int:
        """Bytes to take from one connection before another has its turn."""
        return int(min(_MOST, max(_LEAST, self._network.bandwidth / 8 * TURN_SECONDS)))

    @property
    def one_way(self) -> float:
        """Seconds that a byte travels after it has left."""
        return self._network.round_trip / 2

    @property
    def in_flight(self) -> int:
        """Bytes that fit between two hosts, on the way or waiting to leave."""
        travelling = self._network.bandwidth / 8 * (self.one_way + BACKLOG_SECONDS)
        return int(travelling) + 2 * self.turn

    def pause(self, now: float) -> float:
        """Seconds until this link takes more bytes; 0 if it does now."""
        return max(0.0, self._free - BACKLOG_SECONDS - now)

    def arrival(self, ready: float, count: int) -> float:
        """Send `count` bytes that are ready at a time; the time at which the last of them arrives.

        They wait until what was given before has left, and leave at the link's bandwidth.
        """
        self._free = max(ready, self._free) + 8 * count / self._network.bandwidth
        return self._free + self.one_way
