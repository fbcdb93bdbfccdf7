"""What a dealer knows of an opening, dealt with it: masks and pads in one draw, both messages in one turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ditto_kernels.party import Deal, Party, Protocol, Round
from ditto_kernels.ring import Array

_BYTE = np.dtype(np.uint8)


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
    if party.role == "D":
        if party.phase == "online":
            yield Round()
            return None, np.broadcast_to(dtype.type(0), shape), [None] * len(items)
        first, pads = _streams(party, name, shape, dtype, items)
        mask = first ^ party.draw(party.dealer, name, shape, dtype)
        sends = []
        for item, value, pad in zip(items, make(mask), pads, strict=True):
            difference = np.bitwise_xor if item.xor else np.subtract
            difference(value, pad, out=pad)
            sends.append(party.send(party.b, item.name, pad, offline=True))
        yield Round(tuple(sends))
        return None, mask, [None] * len(items)
    if party.role == "A":
        mask, pads = _streams(party, name, shape, dtype, items)
        padded = mine ^ mask
        (other,) = yield Round(
            (party.send(party.b, name, padded),), (party.expect(party.b, name, shape, dtype),)
        )
        return padded ^ other, mask, pads
    mask = party.draw(party.dealer, name, shape, dtype)
    padded = mine ^ mask
    other, *dealt = yield Round(
        (party.send(party.a, name, padded),),
        (
            party.expect(party.a, name, shape, dtype),
            *(party.expect(party.dealer, item.name, item.shape, item.dtype) for item in items),
        ),
    )
    return padded ^ other, mask, dealt


def _streams(
    party: Party, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], items: Sequence[Deal]
) -> tuple[Array, list[Any]]:
    """A's mask and its shares of what is dealt, in one stream: the widest type first keeps them aligned."""
    wanted = [(shape, dtype), *((item.shape, item.dtype) for item in items)]
    sizes = [math.prod(each) * kind.itemsize for each, kind in wanted]
    stream = party.draw(party.dealer + 1, name, (sum(sizes),), _BYTE)
    parts: list[Any] = [None] * len(wanted)
    start = 0
    for place in sorted(range(len(wanted)), key=lambda place: -wanted[place][1].itemsize):
        each, kind = wanted[place]
        parts[place] = stream[start : start + sizes[place]].view(kind).reshape(each)
        start += sizes[place]
    return parts[0], parts[1:]
