"""A party of a protocol has a role, streams in common with the others, and functions that drive it.

Protocols are generators. They yield a `Round`, which says what to send and what to receive, and are resumed
with the received tensors. So the same code runs alone, or merged with others into shared rounds by
`parallel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.link import Link, Receive, Send
from ditto_kernels.protocol.randomness import Randomness
from ditto_kernels.protocol.round_worth import ROUND_WORTH, limit
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array

T = TypeVar("T")
_BYTE = np.dtype(np.uint8)
Phase = Literal["whole", "ahead", "online"]


class Round(NamedTuple):
    """An exchange: all messages are sent before the party waits for any."""

    sends: tuple[Send, ...] = ()
    receives: tuple[Receive, ...] = ()


class Heavy(Round):
    """A round before much work, which parties of one process should do side by side."""


class Together(Heavy):
    """A heavy round that all parties reach. The first to arrive should wait for the others."""


class Dealing(Round):
    """A turn of `deal`, in which only dealt tensors move. It shares no turn with rounds between A and B."""


Protocol = Generator[Round, list[NDArray[Any]], T]


class Party(NamedTuple):
    """The first argument of every protocol.

    For one kernel the roles are fixed. The dealer D deals material that does not depend on inputs to A = D +
    1 and B = D + 2 (mod 3), and only these two open masked values. A holds (x_{D+1}, x_{D+2}), and B holds
    (x_{D+2}, x_D). A's sum x_{D+1} + x_{D+2} and B's x_D are therefore a 2-of-2 sharing without a message.

    `masked` says that D's two components of every value are masks that depend on no input, with one dealer
    for a whole request. All messages of D can then be made in the offline phase. `phase` is "ahead" to make
    the dealt material and nothing else, "online" if that was done before, and "whole" to do both at once.
    `worth` says how many bytes a saved round is worth, by which all three choose among protocols.
    """

    rank: int
    randomness: Randomness
    dealer: int = 2
    scope: str = ""
    masked: bool = False
    phase: Phase = "whole"
    worth: int = ROUND_WORTH

    @property
    def role(self) -> str:
        """The role of the party: 'A', 'B' or 'D'."""
        return "DAB"[(self.rank - self.dealer) % 3]

    @property
    def a(self) -> int:
        return (self.dealer + 1) % 3

    @property
    def b(self) -> int:
        return (self.dealer + 2) % 3

    def at(self, name: str) -> Party:
        """Return the same party inside a named part of a protocol.

        The names address random streams and messages.
        """
        scope = f"{self.scope}/{name}"
        return Party(self.rank, self.randomness, self.dealer, scope, self.masked, self.phase, self.worth)

    def with_dealer(self, dealer: int) -> Party:
        return self._replace(dealer=dealer % 3)

    def limit(self, measured: int) -> int:
        """Return a limit of `tuning` for what a saved round is worth here."""
        return limit(measured, self.worth)

    def draw(self, component: int, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Draw uniform elements that the two holders of `component` have in common."""
        return self.randomness.draw(component % 3, f"{self.scope}:{name}", shape, dtype)

    def draw_with_dealer(self, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Draw A's or B's mask, which the dealer knows too (component D + 1 for A, D for B).

        It is not for D itself.
        """
        return self.draw(self.dealer + 1 if self.role == "A" else self.dealer, name, shape, dtype)

    def draw_both(self, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Draw (A's mask, B's mask) of that name, as the dealer knows them."""
        return (
            self.draw(self.dealer + 1, name, shape, dtype),
            self.draw(self.dealer, name, shape, dtype),
        )

    def draw_to_deal(self, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Do `draw_both` for masks that the dealer only deals from.

        The masks are absent if the offline phase has dealt everything.
        """
        if self.phase == "online":
            nothing = absent(tuple(shape), dtype)
            return nothing, nothing
        return self.draw_both(name, shape, dtype)

    def send(self, to: int, name: str, array: Array, offline: bool = False) -> Send:
        return Send(to, f"{self.scope}:{name}", array, offline)

    def expect(self, source: int, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Receive:
        return Receive(source, f"{self.scope}:{name}", tuple(shape), dtype)


def run(link: Link, protocol: Protocol[T]) -> T:
    """Drive one protocol over a link and return its result."""
    received: list[NDArray[Any]] | None = None
    with np.errstate(over="ignore"):  # Rings wrap, and numpy reports that for scalars.
        while True:
            try:
                step = next(protocol) if received is None else protocol.send(received)
            except StopIteration as stop:
                return stop.value
            link.send(step.sends)
            received = link.receive(step.receives)


def parallel(*protocols: Protocol[Any]) -> Protocol[list[Any]]:
    """Run independent protocols at once. Their messages of the same turn share a round.

    Turns in which one of them only deals come before the others' next turn, so that dealing puts no protocol
    out of step.
    """
    if len(protocols) == 1:
        return [(yield from protocols[0])]
    results: list[Any] = [None] * len(protocols)
    inbox: dict[int, list[NDArray[Any]] | None] = dict.fromkeys(range(len(protocols)))
    waiting: dict[int, Round] = {}
    while inbox or waiting:
        for index, received in inbox.items():
            try:
                waiting[index] = (
                    next(protocols[index]) if received is None else protocols[index].send(received)
                )
            except StopIteration as stop:
                results[index] = stop.value
        if not waiting:
            break
        dealing = [index for index, step in waiting.items() if isinstance(step, Dealing)]
        steps = {index: waiting.pop(index) for index in dealing or [*waiting]}
        arrays = yield (Dealing if dealing else Round)(
            tuple(send for step in steps.values() for send in step.sends),
            tuple(receive for step in steps.values() for receive in step.receives),
        )
        inbox, start = {}, 0
        for index, step in steps.items():
            inbox[index] = arrays[start : start + len(step.receives)]
            start += len(step.receives)
    return results


def exchange(party: Party, name: str, array: Array) -> Protocol[Array]:
    """Let A and B swap one tensor each, and return the other's.

    It is absent at the dealer, who takes no part.
    """
    role = party.role
    if role == "D":
        yield Round()
        return absent(array.shape, array.dtype)
    other = party.b if role == "A" else party.a
    (received,) = yield Round(
        (party.send(other, name, array),), (party.expect(other, name, array.shape, array.dtype),)
    )
    return received


class Deal(NamedTuple):
    """A tensor to deal. The dealer's value is split between A and B, additively or by XOR."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    xor: bool = False


def deal(party: Party, items: Sequence[Deal], make: Callable[[], Sequence[Array]]) -> Protocol[list[Any]]:
    """Deal tensors from the dealer to A and B.

    A draws its share from the stream that it has with the dealer, and B receives the difference. `make` runs
    at the dealer alone, unless the offline phase has dealt everything, and returns the values in the order of
    `items`. A and B get their shares, and the dealer's are absent. Rounds: none, since nothing depends on an
    input. Security: A sees uniform bytes, and B a one-time-padded value. Both are independent of inputs.
    """
    if party.role == "A":
        yield Dealing()
        return _pads(party, items)
    if party.role == "B":
        received = yield Dealing(
            (), tuple(party.expect(party.dealer, item.name, item.shape, item.dtype) for item in items)
        )
        return list(received)
    yield Dealing(() if party.phase == "online" else padded(party, items, make, _pads(party, items)))
    return unshared(items)


def unshared(items: Sequence[Deal]) -> list[Array]:
    """Return the dealer's shares of the tensors that it deals, which are absent."""
    return [absent(item.shape, item.dtype) for item in items]


def padded(
    party: Party, items: Sequence[Deal], make: Callable[[], Sequence[Array]], pads: Sequence[Array]
) -> tuple[Send, ...]:
    """Return the dealer's messages to B: the values that `make` returns, less A's shares.

    A's shares are overwritten. If the streams are absent, no values are made, and the messages are absent
    too.
    """
    values = pads if not pads or is_absent(pads[0]) else make()
    sends = []
    for item, value, pad in zip(items, values, pads, strict=True):
        difference = np.bitwise_xor if item.xor else np.subtract
        sends.append(party.send(party.b, item.name, difference(value, pad, out=pad), offline=True))
    return tuple(sends)


def draw_together(party: Party, component: int, name: str, items: Sequence[Deal]) -> list[NDArray[Any]]:
    """Draw uniform tensors from one stream and return them in the order of `items`.

    The widest type comes first in the stream, which keeps the tensors aligned.
    """
    sizes = [math.prod(item.shape) * item.dtype.itemsize for item in items]
    stream = party.draw(component, name, (sum(sizes),), _BYTE)
    tensors: list[Any] = [None] * len(items)
    start = 0
    for place in sorted(range(len(items)), key=lambda place: -items[place].dtype.itemsize):
        part = stream[start : start + sizes[place]]
        tensors[place] = part.view(items[place].dtype).reshape(items[place].shape)
        start += sizes[place]
    return tensors


def _pads(party: Party, items: Sequence[Deal]) -> list[NDArray[Any]]:
    """Return A's shares, which the dealer draws too."""
    return draw_together(party, party.dealer + 1, f"deal {items[0].name}", items) if items else []
