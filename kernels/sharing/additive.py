"""2-of-2 additive shares between A and B come free from replicated shares; resharing takes one round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ditto_kernels.protocol.party import Party, Protocol, Round, exchange
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss


class Additive(NamedTuple):
    """A 2-of-2 sharing: x = share at A + share at B (mod 2^k). The dealer's share is absent."""

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


class Opened(NamedTuple):
    """An opening c = x + r, which A and B know and which is absent at the dealer.

    `mask` is A's or B's share of r. At the dealer it is r itself, and `first` is A's share of r.
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
    """Turn replicated shares into a 2-of-2 sharing, at no cost.

    A adds its two components, and B takes the one that A lacks.
    """
    role = party.role
    if role == "D":
        return Additive(absent(x.shape, x.fxp.dtype), x.fxp)
    return Additive(x.mine + x.next if role == "A" else x.next, x.fxp)


def to_rss(party: Party, x: Additive, name: str = "reshare") -> Protocol[Rss]:
    """Reshare a 2-of-2 sharing as replicated shares with fresh components.

    Cost: 2k bits in 1 round (A and B send one message each). Error: none. Security: components D + 1 and D
    are fresh pads that the dealer draws too, so that both messages are one-time-padded.
    """
    if party.role == "D":
        return (yield from replicate(party, absent(x.shape, x.fxp.dtype), x.share, x.fxp, name))
    pad = party.draw_with_dealer(name, x.shape, x.fxp.dtype)
    return (yield from replicate(party, pad, x.share - pad, x.fxp, name))


def replicate(party: Party, pad: Array, difference: Array, fxp: Fxp, name: str = "reshare") -> Protocol[Rss]:
    """Do `to_rss` for shares that are less their pads already.

    The pad is what `draw_with_dealer` returns for that name. The dealer's arrays are absent.
    """
    if party.role == "D":
        first, second = party.draw_both(name, difference.shape, fxp.dtype)
        yield Round()
        return Rss(second, first, fxp)
    other = yield from exchange(party, name, difference)
    opened = difference + other
    return Rss(pad, opened, fxp) if party.role == "A" else Rss(opened, pad, fxp)


def open_masked(party: Party, x: Additive, name: str = "open", bias: int = 0) -> Protocol[Opened]:
    """Open c = x + bias + r to A and B, for a uniform r over the whole ring that only the dealer knows.

    Cost: 2k bits in 1 round. Error: none. Security: A and B each lack the other's half of r, and the dealer
    never sees c.
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
