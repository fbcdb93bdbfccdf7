"""Tell which elements of a value can reach an output.

`jnp.where(x == 0, 1.0, jnp.sin(x) / x)` divides by zero in a branch that it does not take there. Such an
element may be anything, on shares as in plaintext, so no range of it matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels import KERNELS
from ditto_spu import ir
from ditto_spu.ir.supported import ELEMENTWISE
from ditto_spu.ops import find
from ditto_spu.ops.op import name_of

_SELECT = "stablehlo.select"
_MOST = 16  # ways to an output that are followed; with more of them every element counts as needed


@dataclass(frozen=True)
class Way:
    """A way to an output through a choice between two values.

    predicate: the booleans of the choice.
    when: the boolean that takes the element.
    then: the ways of the choice's result. None stands for all elements.
    """

    predicate: ir.Value
    when: bool
    then: tuple[Way, ...] | None


Ways = tuple[Way, ...] | None


def ways(value: ir.Value, known: dict[ir.Value, Ways]) -> Ways:
    """Return the ways by which elements of a value reach an output, or None where all may.

    known: the answers so far. The function adds to them.
    """
    if value not in known:
        known[value] = _ways(value, known)
    return known[value]


def _ways(value: ir.Value, known: dict[ir.Value, Ways]) -> Ways:
    found: list[Way] = []
    for user in ir.users(value):
        if user.name == _SELECT and list(user.operands).count(value) == 1 and user.operands[0] != value:
            found.append(Way(user.operands[0], user.operands[1] == value, ways(user.results[0], known)))
            continue
        after = ways(user.results[0], known) if is_elementwise(user) else None
        if after is None:
            return None
        found += after
    return tuple(found) if len(found) <= _MOST else None


def is_elementwise(op: ir.Op) -> bool:
    """Tell whether each element of the result depends only on the elements at its place."""
    if len(op.results) != 1 or any(ir.shape(each) != ir.shape(op.results[0]) for each in op.operands):
        return False
    record = find(op)
    if record is not None and ir.composite_name(op):
        return KERNELS[record.kernels[name_of(op)]].elementwise
    return op.name in ELEMENTWISE


def predicates(found: Ways) -> list[ir.Value]:
    """Return the booleans of all choices on some ways."""
    return [each for way in found or () for each in (way.predicate, *predicates(way.then))]


def mask(
    found: tuple[Way, ...], shape: tuple[int, ...], at: Callable[[ir.Value], NDArray[Any]]
) -> NDArray[np.bool_]:
    """Return which elements are needed, as booleans of the given shape.

    at: gives the booleans of a choice.
    """
    needed = np.zeros(shape, np.bool_)
    for way in found:
        taken = np.broadcast_to(np.asarray(at(way.predicate), np.bool_) == way.when, shape)
        needed |= taken if way.then is None else taken & mask(way.then, shape, at)
    return needed
