"""One turn opens a value and deals values that the dealer derives from the mask of that opening."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ditto_kernels.protocol.party import Deal, Party, Protocol, Round, draw_together, padded, unshared
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array


def open_and_deal(
    party: Party, name: str, mine: Array, items: Sequence[Deal], make: Callable[[Array], Sequence[Array]]
) -> Protocol[tuple[Array, Array, list[Array]]]:
    """Open x ^ m and deal values that depend on m, in one turn.

    Returns (x ^ m, which A and B know; the party's XOR share of m, or the whole mask at the dealer; the
    shares of the dealt values). `mine` is the party's XOR share of x. `make` maps the whole mask to the
    values of `items`. It runs at the dealer alone, unless the offline phase has dealt everything. Cost: that
    of an exchange and of `deal`, in 1 round.

    Security: A's mask and its shares of the dealt values are different bytes of a stream that it has with the
    dealer. B's mask is a stream of its own with the dealer. Each lacks the other's half of m, and B receives
    padded values.
    """
    role, shape, dtype = party.role, mine.shape, mine.dtype
    if role == "B":
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
    if role == "D" and party.phase == "online":
        yield Round()
        nothing = absent(shape, dtype)
        return nothing, nothing, unshared(items)
    mask, *pads = draw_together(party, party.a, name, (Deal(name, shape, dtype), *items))
    if role == "D":
        mask = mask ^ party.draw(party.dealer, name, shape, dtype)
        yield Round(padded(party, items, lambda: make(mask), pads))
        return absent(shape, dtype), mask, unshared(items)
    masked = mine ^ mask
    (other,) = yield Round((party.send(party.b, name, masked),), (party.expect(party.b, name, shape, dtype),))
    return masked ^ other, mask, pads
