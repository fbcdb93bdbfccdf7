"""Arithmetic with public numbers needs no message: constants are added and values are scaled."""

from __future__ import annotations

from ditto_kernels.protocol.party import Party
from ditto_kernels.values.replicated import Rss


def plus_constant(party: Party, x: Rss, value: int, factor: int = 1) -> Rss:
    """Return factor * x + value for public ring elements. It is local: component 0 takes the constant."""
    dtype = x.fxp.dtype.type
    mine, following = x.mine * dtype(factor), x.next * dtype(factor)
    if party.rank == 0:
        mine = mine + dtype(value)
    if party.rank == 2:
        following = following + dtype(value)
    return Rss(mine, following, x.fxp)
