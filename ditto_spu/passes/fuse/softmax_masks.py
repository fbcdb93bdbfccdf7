"""Join the masks of a softmax to one boolean, which means what floats make of the numbers that mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
from jax import Array

from ditto_spu import ir

MASKED = -1e4  # a score of this or less means minus infinity
DEEP = -(2.0**20)  # floats of this size or more lose the score that is added to them


@dataclass(frozen=True)
class Mask:
    """A boolean with the shape of the scores, which is true where they are kept.

    low: the number that is added to the others. Minus infinity where a number takes their place, and None for
        a secret mask.
    """

    value: ir.Value
    low: float | None = None


def joined(
    found: Sequence[Mask], levels: Sequence[ir.Value], dim: int, at: ir.Op
) -> tuple[list[ir.Value], list[ir.Value]]:
    """Return the mask of all masks, in a list that is empty without any, and the biases of kept scores.

    levels: public biases of which any element may be a number that masks.
    dim: the dimension of the softmax.
    """
    masks, lows = [each.value for each in found], [each.low for each in found]
    if not levels and not any(low is not None and low > DEEP for low in lows):
        return ir.emit(lambda *masks: _all(masks), masks, at, at.location) if masks else [], []
    public = [mask for mask, low in zip(masks, lows, strict=True) if low is not None]
    meaning = partial(_split, lows=tuple(low for low in lows if low is not None), dim=dim)
    mask, rest = ir.emit(meaning, [*public, *levels], at, at.location)
    others = [each for each, low in zip(masks, lows, strict=True) if low is None]
    whole = ir.emit(lambda *masks: _all(masks), [mask, *others], at, at.location) if others else [mask]
    return whole, [rest] if levels else []


def _all(masks: tuple[Array, ...]) -> Array:
    combined = masks[0]
    for each in masks[1:]:
        combined = combined & each
    return combined


def _split(*operands: Array, lows: tuple[float, ...], dim: int) -> tuple[Array, Array]:
    """Return (where scores are kept, the sum of the biases at these places and 0 elsewhere).

    operands: masks, and biases of which any element may mask.
    lows: for each mask, the number that it adds.

    In a row that keeps no score, those with the highest biases are kept, unless floats would lose the scores.
    """
    masks, levels = operands[: len(lows)], operands[len(lows) :]
    dtype = levels[0].dtype if levels else jnp.float32
    biases = sum(levels, jnp.zeros(operands[0].shape, dtype))
    total = biases
    for mask, low in zip(masks, lows, strict=True):
        total = jnp.where(mask, total, total + jnp.asarray(low, dtype))
    top = jnp.max(total, axis=dim, keepdims=True)
    # Half of the number leaves room for further biases beside the one that masks.
    shift = jnp.where((top <= MASKED / 2) & (top > DEEP), top, 0)
    kept = total - shift > MASKED / 2
    least = jnp.where(shift < 0, jnp.max(biases, axis=dim, keepdims=True), 0)
    return kept, jnp.where(kept, biases - least, 0)
