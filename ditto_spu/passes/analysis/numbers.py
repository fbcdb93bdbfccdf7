"""Number the operations of one kind at one path, so that a rule can speak about one of them.

A plain function has one path for everything that it does. Operations that only rearrange a value, such as
reshapes, have no number, because their values are those of what they rearrange.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ditto_spu import ir
from ditto_spu.ops import record_of
from ditto_spu.ops.decision import Kind, Nth
from ditto_spu.passes.analysis.classify import LAYOUT


def rearranges(op: ir.Op) -> bool:
    """Tell whether the result of an operation holds elements of its first operand alone."""
    return LAYOUT.get(op.name) == (0,)


def numbers(kinds: Mapping[ir.Op, Kind]) -> dict[ir.Op, Nth]:
    """Return the number of each operation about which rules may speak.

    kinds: the kinds of the operations of @main, in order.
    """
    places = {}
    for op, kind in kinds.items():
        record = record_of(op, kind)
        if record is not None and not (kind is Kind.LOCAL and rearranges(op)):
            places[op] = ir.path_of(op), record.name
    of, met = Counter(places.values()), Counter[tuple[str, str]]()
    found = {}
    for op, place in places.items():
        met[place] += 1
        found[op] = Nth(met[place], of[place])
    return found
