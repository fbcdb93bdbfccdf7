"""Measure the extremes of an operation's values inside the observed program.

Values are large, and only their extremes matter, so the program returns a few numbers for each operation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ditto_spu.ops.observed import Extremes, Facts, extremes, number
from ditto_spu.ops.op import Span
from ditto_spu.passes.analysis.needed import Choices, mask

RESULT = ""  # the name of the result's extremes among the facts
Types = tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]


@dataclass(frozen=True)
class Measure:
    """A JAX function of an operation's result, its operands, and the booleans of choices.

    It returns the least and the largest element of the result, and then of each fact. Only elements that can
    reach an output count.

    signature: everything of the operation on which the facts depend. Equal measures are traced once.
    operands: the number of operands.
    choices: the choices by which elements reach an output, or None where all may.
    elementwise: whether an element of the result depends only on the elements at its place.
    facts: what the ranges of the operation's kernel are about, from its operands.
    """

    signature: str
    operands: int
    choices: Choices | None
    elementwise: bool
    facts: Callable[[Sequence[Array]], Facts] = field(compare=False)

    def __call__(self, result: Array, *others: Array) -> tuple[Array, ...]:
        spans = self.spans(result, *others)
        return tuple(end for name in sorted(spans) for end in spans[name])

    def spans(self, result: Array, *others: Array) -> dict[str, Extremes]:
        """Return the extremes by name, that of the result under an empty name."""
        operands, predicates = others[: self.operands], others[self.operands :]
        needed = None
        if self.choices is not None:
            needed = mask(self.choices, result.shape, predicates)
            if self.elementwise:
                operands = tuple(_only(each, needed) for each in operands)
        return {RESULT: extremes(result, needed), **self.facts(operands)}


def _only(operand: Array, needed: Array) -> Array:
    """Return an operand with an element that is needed in the place of each one that is not."""
    return (
        jnp.where(needed, operand, operand.ravel()[jnp.argmax(needed.ravel())]) if operand.size else operand
    )


@functools.lru_cache(maxsize=4096)
def names(measure: Measure, types: Types) -> tuple[str, ...]:
    """Return the names of what a measure of values of these types finds, in the order of its numbers."""
    with jax.experimental.enable_x64():
        avals = [jax.ShapeDtypeStruct(*each) for each in types]
        return tuple(sorted(jax.eval_shape(measure.spans, *avals)))


def read(names: Sequence[str], ends: Sequence[NDArray[Any]]) -> tuple[Span | None, Mapping[str, Span]]:
    """Return the extremes of the result, or None where no element counts, and of the facts.

    NaN counts as infinite, because no format holds it.
    """
    found: dict[str, Span] = {}
    for place, name in enumerate(names):
        low, high = (number(each) for each in ends[2 * place : 2 * place + 2])
        if np.isnan(low) or np.isnan(high):
            found[name] = (-np.inf, np.inf)
        elif low <= high:
            found[name] = (low, high)
    result = found.pop(RESULT, None)
    return result, found if result is not None else {}
