"""What a dealer knows of an opening, dealt with it: masks and pads in one draw, both messages in one turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, draw_together, padded
from ditto_kernels.values.formats import Array


def open_and_deal(
    party: Party,
    name: str,
    mine: Array | None,
    like: tuple[tuple[int, ...], np.dtype[Any]],
    items: Sequence[Deal],
    make: Callable[[Array], Sequence[Array]],
) -> Protocol[tuple[Array | None, Array, list[Any]]]:
    """(x ^ m known to A and B, own XOR share of m or the dealer's whole mask, shares of what is dealt).

    mine: own XOR share of x, of shape and type `like`. `make` maps the whole mask to the values of `items`;
    it runs at the dealer alone, unless all was dealt ahead. Cost: that of an exchange and of `deal`; 1 round.
    Security: A's mask and its shares of what is dealt are different bytes of a stream it has with the dealer,
    B's mask is its own stream with it; each lacks the other's half of m, and B receives padded values.
    """
    shape, dtype = like
    drawn = (Deal(name, shape, dtype), *items)  # with A, in one stream
    if party.role == "D":
        if party.phase == "online":
            yield Round()
            return None, np.broadcast_to(dtype.type(0), shape), [None] * len(items)
        first, *pads = draw_together(party, party.a, name, drawn)
        mask = first ^ party.draw(party.dealer, name, shape, dtype)
        yield Round(padded(party, items, make(mask), pads))
        return None, mask, [None] * len(items)
    if party.role == "A":
        mask, *pads = draw_together(party, party.a, name, drawn)
        masked = mine ^ mask
        (other,) = yield Round(
            (party.send(party.b, name, masked),), (party.expect(party.b, name, shape, dtype),)
        )
        return masked ^ other, mask, pads
    mask = party.draw(party.dealer, name, shape, dtype)
    masked = mine ^ mask
    other, *dealt = yield Round(
        (party.send(party.a, name, masked),),
        (
            party.expect(party.a, name, shape, dtype),
            *(party.expect(party.dealer, item.name, item.shape, item.dtype) for item in items),
        ),
    )
    return masked ^ other, mask, dealt
