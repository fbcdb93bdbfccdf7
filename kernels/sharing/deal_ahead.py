"""In the offline phase a dealer drives its side of a protocol alone, before any input exists."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from ditto_kernels.protocol.link import Send
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import from_rss, to_rss
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Fxp
from ditto_kernels.values.replicated import Rss

T = TypeVar("T")


def deal_ahead(protocol: Protocol[T]) -> tuple[T, list[Send]]:
    """Drive one party's side of a protocol alone and return its result and the dealt tensors.

    All that it would receive is absent, and its online messages are dropped: dealt tensors depend on neither.
    The result has numbers only with masked shares, where the dealer's components are masks.
    """
    dealt: list[Send] = []
    received: list[Any] | None = None
    while True:
        try:
            with np.errstate(over="ignore"):  # Rings wrap, and numpy reports that for scalars.
                step = next(protocol) if received is None else protocol.send(received)
        except StopIteration as stop:
            return stop.value, dealt
        dealt += [send for send in step.sends if send.offline]
        received = [absent(each.shape, each.dtype) for each in step.receives]


def nothing(shape: tuple[int, ...], fxp: Fxp) -> Rss:
    """Return an operand with a shape and a format but no numbers, for a kernel in the offline phase."""
    component = absent(shape, fxp.dtype)
    return Rss(component, component, fxp)


def remask(party: Party, x: Rss, name: str = "remask") -> Protocol[Rss]:
    """Reshare a value with fresh masks as the dealer's components.

    It follows protocols in which all three parties take part alike, so that masked shares can go on. Cost: 2k
    bits in 1 round. Security: that of `to_rss`.
    """
    return (yield from to_rss(party, from_rss(party, x), name))


def dealers_part(party: Party, shape: tuple[int, ...], fxp: Fxp, name: str = "remask") -> Rss:
    """Return the dealer's components of the result of `remask`, which are masks and need no input."""
    first, second = party.draw_both(name, shape, fxp.dtype)
    return Rss(second, first, fxp)


def in_phase(party: Party, phase: Any) -> Party:
    """Return the same party in another phase, "ahead" or "online"."""
    return party._replace(phase=phase)
