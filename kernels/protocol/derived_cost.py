"""The cost of a protocol is derived: it runs on absent operands, and its messages are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ditto_kernels.protocol.cost import Cost
from ditto_kernels.protocol.link import LinkError
from ditto_kernels.protocol.party import Party, Protocol, Round
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import PARTIES, Rss

_DEALER = 2  # With this dealer, parties 0, 1 and 2 are A, B and D.
_PUBLIC = np.dtype(np.float64)


@dataclass(frozen=True)
class Spec:
    """An operand as the compiler describes it: its shape, and its format if it is shared.

    A public array has the format None.
    """

    shape: tuple[int, ...]
    fxp: Fxp | None = None


class _AbsentStreams:
    """Streams without bytes, in place of `Randomness`."""

    def draw(self, component: int, label: str, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        return absent(tuple(shape), dtype)


_STREAMS: Any = _AbsentStreams()


def cost_of(
    protocol: Callable[..., Protocol[Any]],
    *operands: Any,
    masked: bool = False,
    worth: int = ROUND_WORTH,
    **attributes: Any,
) -> Cost:
    """Return bytes and rounds of `protocol(party, *operands, **attributes)`, as links count them.

    An operand is a `Spec`, or any argument that the protocol takes, with absent arrays in it. `masked` asks
    for the cost with masked shares, and `worth` is what a saved round is worth (see `Party`). Costs are
    cached where protocol, operands and attributes are hashable. Raises ValueError as the protocol raises it,
    TypeError if a message of the protocol depends on data, and LinkError if all parties wait or a message
    differs from the expected one.
    """
    return _outcome(protocol, operands, masked, worth, attributes)[0]


def result_of(protocol: Callable[..., Protocol[Any]], *operands: Any, **attributes: Any) -> Spec:
    """Return the shape and format of what `protocol(party, *operands, **attributes)` returns.

    Nothing is computed. The arguments and errors are those of `cost_of`.
    """
    return _outcome(protocol, operands, False, ROUND_WORTH, attributes)[1]


def _outcome(
    protocol: Callable[..., Protocol[Any]],
    operands: Sequence[Any],
    masked: bool,
    worth: int,
    attributes: dict[str, Any],
) -> tuple[Cost, Spec]:
    call = (protocol, operands, masked, worth, tuple(attributes.items()))
    return _kept(*call) if _hashable(call) else _counted(*call)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _counted(
    protocol: Callable[..., Protocol[Any]],
    operands: Sequence[Any],
    masked: bool,
    worth: int,
    attributes: tuple[tuple[str, Any], ...],
) -> tuple[Cost, Spec]:
    turns = [
        _Turn(
            protocol(
                Party(rank, _STREAMS, _DEALER, masked=masked, worth=worth),
                *map(_operand, operands),
                **dict(attributes),
            )
        )
        for rank in range(PARTIES)
    ]
    boxes: list[dict[tuple[int, str], tuple[Array, int]]] = [{}, {}, {}]
    with np.errstate(over="ignore"):
        while left := [rank for rank in range(PARTIES) if not turns[rank].done]:
            if not [rank for rank in left if _goes_on(turns[rank], rank, boxes)]:
                raise LinkError("all parties wait")
    a, b, d = turns
    rounds = max(each.clock for each in turns)
    cost = Cost((a.online, b.online, d.online), (a.offline, b.offline, d.offline), rounds)
    return cost, Spec(tuple(getattr(a.result, "shape", ())), getattr(a.result, "fxp", None))


_kept = lru_cache(maxsize=1 << 12)(_counted)


def _operand(spec: Any) -> Any:
    """Return a party's absent shares of an operand."""
    if not isinstance(spec, Spec):
        return spec
    if spec.fxp is None:
        return absent(spec.shape, _PUBLIC)
    share = absent(spec.shape, spec.fxp.dtype)
    return Rss(share, share, spec.fxp)


@dataclass(eq=False)
class _Turn:
    """The state of one party: the exchange for which it waits, its result, and the bytes that it has sent."""

    protocol: Protocol[Any]
    waits: Round | None = None
    result: Any = None
    done: bool = False
    clock: int = 0
    online: int = 0
    offline: int = 0


def _goes_on(turn: _Turn, rank: int, boxes: list[dict[tuple[int, str], tuple[Array, int]]]) -> bool:
    """Take a party's next step and return True, or return False if its messages are not there yet."""
    box, arrays = boxes[rank], []
    expected = turn.waits.receives if turn.waits is not None else ()
    for item in expected:
        if (item.source, item.tag) not in box:
            return False
    for item in expected:
        array, sent_at = box.pop((item.source, item.tag))
        if array.shape != item.shape or array.dtype != item.dtype:
            raise LinkError(f"'{item.tag}' is sent as {array!r}, expected as {item.dtype}{list(item.shape)}")
        turn.clock = max(turn.clock, sent_at)
        arrays.append(array)
    try:
        turn.waits = next(turn.protocol) if turn.waits is None else turn.protocol.send(arrays)
    except StopIteration as stop:
        turn.done, turn.result = True, stop.value
        return True
    for message in turn.waits.sends:
        if message.offline:
            turn.offline += message.array.nbytes
        else:
            turn.online += message.array.nbytes
        boxes[message.to][rank, message.tag] = (message.array, 0 if message.offline else turn.clock + 1)
    return True
