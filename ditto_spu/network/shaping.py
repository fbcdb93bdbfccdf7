"""Computes when the bytes that a host sends arrive.

The host's link serialises the bytes, and then they travel. This module reads no clock.
"""

from __future__ import annotations

from ditto_spu.network.model import Network

# A link takes bytes of its connections in turn, about TURN_SECONDS' worth at a time. It takes no more while
# more than BACKLOG_SECONDS' worth waits to leave. Further bytes stay with the sender.
TURN_SECONDS = 1e-3
BACKLOG_SECONDS = 4e-3
_LEAST, _MOST = 1 << 14, 1 << 18  # bytes of a turn


class Uplink:
    """Models the link by which one host sends to all others. Bytes leave in the order in which they come.

    Times are seconds of the caller's clock.

    in_flight: an attribute, the bytes that fit between two hosts: those that travel and those that wait to
        leave.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        travelling = network.bandwidth / 8 * (self.one_way + BACKLOG_SECONDS)
        self.in_flight = int(travelling) + 2 * self.turn
        self._free = float("-inf")  # the time at which the last byte given so far has left

    @property
    def turn(self) -> int:
        """Return the bytes to take from one connection before another has its turn."""
        return int(min(_MOST, max(_LEAST, self._network.bandwidth / 8 * TURN_SECONDS)))

    @property
    def one_way(self) -> float:
        """Return the seconds that a byte travels after it has left."""
        return self._network.round_trip / 2

    def pause(self, now: float) -> float:
        """Return the seconds until this link takes more bytes, or 0 if it takes some now."""
        return max(0.0, self._free - BACKLOG_SECONDS - now)

    def arrival(self, ready: float, count: int) -> float:
        """Send `count` bytes that are ready at time `ready`. Returns the time at which the last one arrives.

        The bytes wait until all earlier ones have left, and leave at the link's bandwidth.
        """
        self._free = max(ready, self._free) + 8 * count / self._network.bandwidth
        return self._free + self.one_way
