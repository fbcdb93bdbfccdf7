"""A cost has the bytes of each role, online and offline, and the rounds of a protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

ROLES = "ABD"
Sent = tuple[int, int, int]


@dataclass(frozen=True)
class Cost:
    """Bytes sent by A, B and the dealer D, and rounds.

    `a + b` is the cost of running one after the other.
    """

    online: Sent = (0, 0, 0)
    offline: Sent = (0, 0, 0)
    rounds: int = 0

    def __add__(self, other: Cost) -> Cost:
        online, offline = _sum(self.online, other.online), _sum(self.offline, other.offline)
        return Cost(online, offline, self.rounds + other.rounds)

    def by_rank(self, dealer: int) -> tuple[Sent, Sent]:
        """Return (online, offline) bytes sent by parties 0, 1 and 2 when party `dealer` deals."""
        place = ["DAB"[(rank - dealer) % 3] for rank in range(3)]
        online = tuple(self.online[ROLES.index(role)] for role in place)
        offline = tuple(self.offline[ROLES.index(role)] for role in place)
        return (online[0], online[1], online[2]), (offline[0], offline[1], offline[2])

    @property
    def total_bytes(self) -> int:
        return sum(self.online) + sum(self.offline)


def _sum(left: Sent, right: Sent) -> Sent:
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2])


def elements(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    return math.prod(shape)
