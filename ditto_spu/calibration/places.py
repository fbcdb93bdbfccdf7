"""Name the places of operations as rules do, and group places that get the same values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from ditto_spu import ir
from ditto_spu.ops import subject
from ditto_spu.ops.decision import Nth, decided

T = TypeVar("T")


class Place(NamedTuple):
    """An operation or an argument of a program, as rules know it.

    op, path: the op of the rules, and the path.
    nth: which one of the operations of the kind at the path it is. None for layout and arguments.
    """

    op: str
    path: str
    nth: Nth | None = None


def place_of(op: ir.Op) -> Place:
    """Return the place of an operation with a decision."""
    decision = decided(op)
    return Place(subject(op, decision.kind), decision.path, decision.nth)


@dataclass(frozen=True)
class Places:
    """Operations of one kind at one path that get the same values.

    numbers: the keys `number` and `of` of their rule, or nothing where all such operations at the path get
        these values.
    """

    path: str
    op: str
    numbers: Mapping[str, Any]


def grouped(values: Mapping[Place, T]) -> Iterator[tuple[Places, T]]:
    """Yield the operations of one kind at one path that have the same value, with that value.

    values: the value of each place. If it has one operation of a kind at a path, it has all of them.
    """
    at: dict[tuple[str, str], list[Place]] = {}
    for place in values:
        at.setdefault((place.path, place.op), []).append(place)
    for (path, op), places in at.items():
        for value in dict.fromkeys(values[each] for each in places):
            same = [each for each in places if values[each] == value]
            yield Places(path, op, {} if len(same) == len(places) else _numbers(same)), value


def _numbers(places: Sequence[Place]) -> Mapping[str, Any]:
    nths = [each.nth for each in places if each.nth is not None]
    return {"number": tuple(sorted(each.number for each in nths)), "of": nths[0].of} if nths else {}
