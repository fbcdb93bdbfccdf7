"""2-of-2 additive shares between A and B: free from replicated shares, resharing back costs one exchange."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ditto_kernels.protocol.party import Party, Protocol, Round, exchange
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


@dataclass(frozen=True)
class Additive:
    """x = share at A + share at B (mod 2^k). The dealer's share is absent."""

    share: Array
    fxp: Fxp

    @property
    def shape(self) -> tuple[int, ...]:
        return self.share.shape

    @property
    def size(self) -> int:
        return math.prod(self.share.shape)

    def reshape(self, shape: Sequence[int]) -> Additive:
        return Additive(self.share.reshape(shape), self.fxp)


@dataclass(frozen=True)
class Opened:
    """c = x + r, known to A and B, absent at the dealer.

    `mask` is A's or B's share of r; at the dealer it is r itself, and `first` is A's share of r.
    """

    c: Array
    mask: Array
    fxp: Fxp
    first: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mask.shape

    @property
    def size(self) -> int:
        return math.prod(self.mask.shape)


def from_rss(party: Party, x: Rss) -> Additive:
    """A adds its two components, B keeps the one A lacks. Cost: nothing."""
    role = party.role
    if role == "D":
        return Additive(absent(x.shape, x.fxp.dtype), x.fxp)
    return Additive(x.mine + x.next if role == "A" else x.next, x.fxp)


def to_rss(party: Party, x: Additive, name: str = "reshare") -> Protocol[Rss]:
    """Replicate a 2-of-2 sharing.

    Cost: 2k bits, 1 round (A and B one message each). Security: components D + 1 and D are fresh pads that
    the dealer draws too; the exchanged values are one-time-padded.
    """
    if party.role == "D":
        first, second = party.draw_both(name, x.shape, x.fxp.dtype)
        yield Round()
        return Rss(second, first, x.fxp)
    pad = party.draw_with_dealer(name, x.shape, x.fxp.dtype)
    difference = x.share - pad
    other = yield from exchange(party, name, difference)
    opened = difference + other
    return Rss(pad, opened, x.fxp) if party.role == "A" else Rss(opened, pad, x.fxp)


def open_masked(party: Party, x: Additive, name: str = "open", bias: int = 0) -> Protocol[Opened]:
    """A and B learn c = x + bias + r for a full-width uniform r that only the dealer knows whole.

    Cost: 2k bits, 1 round. Security: each of A and B lacks the other's half of r; the dealer never sees c.
    """
    dtype = x.fxp.dtype
    if party.role == "D":
        first, second = party.draw_to_deal(name, x.shape, dtype)
        yield Round()
        return Opened(x.share, first + second, x.fxp, first)
    mask = party.draw_with_dealer(name, x.shape, dtype)
    mine = x.share + mask
    if party.role == "A" and bias:
        mine = mine + dtype.type(bias)
    other = yield from exchange(party, name, mine)
    return Opened(mine + other, mask, x.fxp)
