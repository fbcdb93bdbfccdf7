"""Tell which elements of a value can reach an output.

`jnp.where(x == 0, 1.0, jnp.sin(x) / x)` divides by zero in a branch that it does not take there. Such an
element may be anything, on shares as in plaintext, so no range of it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from ditto_kernels import KERNELS
from ditto_spu import ir
from ditto_spu.ir.supported import ELEMENTWISE
from ditto_spu.ops import find
from ditto_spu.ops.op import name_of

_SELECT = "stablehlo.select"
# With more ways to an output, or after so many choices on one, every element counts as needed.
_MOST_WAYS, _MOST_CHOICES = 8, 3


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


def ways(operations: Sequence[ir.Op]) -> dict[ir.Value, Ways]:
    """Return the ways by which elements of each result reach an output, or None where all may.

    operations: those of one block, in order.
    """
    known: dict[ir.Value, Ways] = {}
    for op in reversed(operations):
        for result in op.results:
            known[result] = _ways(result, known)
    return known


def _ways(value: ir.Value, known: Mapping[ir.Value, Ways]) -> Ways:
    found: list[Way] = []
    for user in ir.users(value):
        if user.name == _SELECT and list(user.operands).count(value) == 1 and user.operands[0] != value:
            then = known.get(user.results[0])
            then = then if then is None or _depth(then) < _MOST_CHOICES else None
            found.append(Way(user.operands[0], user.operands[1] == value, then))
            continue
        after = known.get(user.results[0]) if is_elementwise(user) else None
        if after is None:
            return None
        found += after
    return tuple(found) if len(found) <= _MOST_WAYS else None


def _depth(found: Ways) -> int:
    return 1 + max((_depth(way.then) for way in found), default=0) if found is not None else 0


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


Choices = tuple[tuple[int, bool, Any], ...]  # the place of a predicate, its boolean, and the choices after it


def choices(found: tuple[Way, ...], places: Mapping[ir.Value, int]) -> Choices:
    """Return ways as plain data, in which the places of predicates stand for these."""
    return tuple(
        (places[way.predicate], way.when, None if way.then is None else choices(way.then, places))
        for way in found
    )


def mask(found: Choices, shape: tuple[int, ...], predicates: Sequence[Array]) -> Array:
    """Return which elements are needed, as booleans of the given shape. It is a JAX function.

    predicates: the booleans of the choices, by their places.
    """
    needed = jnp.zeros(shape, bool)
    for place, when, then in found:
        taken = jnp.broadcast_to(predicates[place] == when, shape)
        needed |= taken if then is None else taken & mask(then, shape, predicates)
    return needed
