"""What a protocol costs, from shapes alone and exact: bytes by role, offline and online apart, and rounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

ROLES = "ABD"


@dataclass(frozen=True)
class Cost:
    """Bytes sent by A, B and the dealer D; `a + b` runs one after the other, `a | b` in shared rounds.

    `masked`: the same where the dealer's components are masks (`Party.masked`), if that costs otherwise.
    """

    online: tuple[int, int, int] = (0, 0, 0)
    offline: tuple[int, int, int] = (0, 0, 0)
    rounds: int = 0
    masked: Cost | None = None

    def __add__(self, other: Cost) -> Cost:
        return self._joined(other, self.rounds + other.rounds, lambda a, b: a + b)

    def __or__(self, other: Cost) -> Cost:
        return self._joined(other, max(self.rounds, other.rounds), lambda a, b: a | b)

    def _joined(self, other: Cost, rounds: int, join: Callable[[Cost, Cost], Cost]) -> Cost:
        masked = None
        if self.masked is not None or other.masked is not None:
            masked = join(self.in_mode(True), other.in_mode(True))
        return Cost(_sum(self.online, other.online), _sum(self.offline, other.offline), rounds, masked)

    def __mul__(self, times: int) -> Cost:
        """So many copies one after the other."""
        masked = None if self.masked is None else self.masked * times
        return Cost(_scale(self.online, times), _scale(self.offline, times), self.rounds * times, masked)

    def in_mode(self, masked: bool) -> Cost:
        """The cost with masked or with ordinary shares."""
        return self.masked if masked and self.masked is not None else replace(self, masked=None)

    def by_rank(self, dealer: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """(online, offline) bytes sent by parties 0, 1, 2 when `dealer` deals."""
        place = ["DAB"[(rank - dealer) % 3] for rank in range(3)]
        online = tuple(self.online[ROLES.index(role)] for role in place)
        offline = tuple(self.offline[ROLES.index(role)] for role in place)
        return (online[0], online[1], online[2]), (offline[0], offline[1], offline[2])

    @property
    def total_bytes(self) -> int:
        return sum(self.online) + sum(self.offline)


def _sum(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2])


def _scale(values: tuple[int, int, int], times: int) -> tuple[int, int, int]:
    return (values[0] * times, values[1] * times, values[2] * times)


def exchanged(elements: int, bits: int) -> Cost:
    """A and B swap so many whole-byte elements: one round."""
    size = elements * bits // 8
    return Cost(online=(size, size, 0), rounds=1)


def dealt(elements: int, bits: int) -> Cost:
    """The dealer sends B so many elements ahead of time."""
    return Cost(offline=(0, 0, elements * bits // 8))


def everyone(elements: int, bits: int) -> Cost:
    """Each party sends one message of so many elements: one round."""
    size = elements * bits // 8
    return Cost(online=(size, size, size), rounds=1)


def elements(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    return math.prod(shape)
