"""Predicts the time of a run from what its stages send, and from what hosts hide behind waiting."""

from __future__ import annotations

from dataclasses import dataclass

from ditto_spu.network.model import Network

# Hosts that are so far apart, in seconds there and back, deal material and run groups of a batch while
# messages travel. Nearer ones do everything in line.
DISTANT_SECONDS = 2e-3
GROUPS = 2  # groups of a batch that take turns
# A round between processes takes so much longer than in one process: to encode, encrypt and read messages,
# and to wake threads. Measured on two cores, over loopback with small messages.
EXCHANGE_SECONDS = 0.3e-3


@dataclass(frozen=True)
class Load:
    """What one call of a plan sends.

    in_line: for each stage the bytes of the party that sends most, summed over the stages.
    online: the same without dealt material.
    dealt: the bytes of material of the party that deals most.
    rounds: on the critical path.
    """

    in_line: int
    online: int
    dealt: int
    rounds: int


def predicted_run(network: Network, compute: float, load: Load, calls: int = 1) -> float:
    """Predict the seconds of one request between hosts.

    compute: the seconds of local computation of one call. calls: how many calls run as one batch.

    One after another these are computation, transfer, and half a round trip and EXCHANGE_SECONDS for each
    round. Every stage waits for its busiest party. Distant hosts send dealt material behind the stages, so it
    counts by the busiest party over the whole run. Their batches run in groups out of phase. About half of
    what these could hide at best is hidden, as measurements have shown.
    """
    distant = network.round_trip >= DISTANT_SECONDS
    sent = load.online + load.dealt if distant else load.in_line
    waiting = load.rounds * (network.round_trip / 2 + EXCHANGE_SECONDS)
    transfer, compute = calls * 8 * sent / network.bandwidth, calls * compute
    in_sequence = compute + transfer + waiting
    if not distant or calls == 1:
        return in_sequence
    at_best = max(waiting + (transfer + compute) / GROUPS, transfer, compute)
    return (in_sequence + at_best) / 2
