"""A saved round is worth some bytes, which depends on the network. Protocols for few elements follow it."""

from __future__ import annotations

# Between parties of one host a saved round is worth so many bytes. The limits of `tuning` hold there.
ROUND_WORTH = 1 << 15
# The worths that a step of a plan may have. Between two of them the limits stay as they are.
ROUND_WORTHS = tuple(ROUND_WORTH << 2 * step for step in range(6))


def limit(measured: int, worth: int) -> int:
    """Return the limit of few elements, rows or bytes where a saved round is worth `worth` bytes.

    `measured` is the limit of `tuning`, which holds for ROUND_WORTH.
    """
    return measured * worth // ROUND_WORTH
