"""Public random coefficients, and sums of ring elements weighted with them.

Coefficients and sums have an axis of repeats, which comes before that of the terms or rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ditto_kernels.machine.backends import backend
from ditto_kernels.products.matmul import Dimensions, as_batches
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Dealing, Party, Protocol
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, unsigned

REPEATS = 2  # so many sums of every row, each with coefficients of its own
_BASES = 12  # sums of weights that serve many requests are kept for so many fixed coefficients
_SEED = 16
_BYTE, _SMALL = np.dtype(np.uint8), np.dtype(np.int16)


def draw_seed(party: Party) -> Protocol[Array]:
    """Draw a public seed, from which all coefficients of a guard follow. No value of the request is in it.

    D and A draw it, and D tells B in the offline phase.
    """
    name = "coefficients"
    if party.role == "B":
        (seed,) = yield Dealing((), (party.expect(party.dealer, name, (_SEED,), _BYTE),))
        return seed
    seed = party.draw(party.dealer + 1, name, (_SEED,), _BYTE)
    told = party.role == "D" and party.phase != "online"
    yield Dealing((party.send(party.b, name, seed, offline=True),) if told else ())
    return seed


def _expanded(seed: Array, name: str, size: int) -> Array:
    """Return so many random bytes. Each name serves one purpose."""
    return np.frombuffer(hashlib.shake_256(name.encode() + seed.tobytes()).digest(size), np.uint8)


@dataclass(frozen=True)
class Coefficients:
    """The public coefficients of a sum: odd and random, mix [REPEATS, 12] times base [12, count].

    base: odd numbers from -3 to 3, always the same. mix: small random numbers of one request.
    """

    base: Array
    mix: Array

    @cached_property
    def whole(self) -> Array:
        """The coefficients [REPEATS, count] themselves, below 300 in magnitude."""
        return _product(self.mix, self.base)


@local_step(lambda mix, base: absent((REPEATS, base.shape[1]), _SMALL))
def _product(mix: Array, base: Array) -> Array:
    return np.matmul(mix.astype(np.float32), base.astype(np.float32)).astype(_SMALL)  # small numbers: exact


@lru_cache(maxsize=64)
def _base(count: int) -> Array:
    drawn = np.frombuffer(hashlib.shake_256(b"base").digest(count * _BASES), np.uint8) & np.uint8(3)
    return (2 * drawn.astype(np.int16) - 3).reshape(_BASES, count)


@local_step(lambda seed: absent((REPEATS, _BASES), _SMALL))
def _mix(seed: Array) -> Array:
    """Return numbers from -8 to 7, with an odd sum in each row."""
    drawn = _expanded(seed, "mix", REPEATS * _BASES)
    mix = (drawn & np.uint8(15)).astype(np.int16).reshape(REPEATS, _BASES) - np.int16(8)
    mix[:, 0] ^= (mix.sum(axis=1) & 1) ^ 1
    return mix


def coefficients(seed: Array, counts: Sequence[int]) -> dict[int, Coefficients]:
    """Return public coefficients for sums of so many elements."""
    mix = _mix(seed)
    return {count: Coefficients(_base(count), mix) for count in set(counts)}


@local_step(lambda seed, count, repeats: absent((repeats, count), _SMALL))
def few_coefficients(seed: Array, count: int, repeats: int) -> Array:
    """Return public coefficients [repeats, count] that are odd and at most 7 in magnitude."""
    drawn = _expanded(seed, "few", count * repeats)
    return (2 * (drawn & np.uint8(7)).astype(np.int16) - 7).reshape(repeats, count)


@local_step(
    lambda seed, place, count, balanced, repeats, factor, dtype: absent((repeats, count), np.dtype(dtype))
)
def random_signs(
    seed: Array, place: int, count: int, balanced: bool, repeats: int, factor: int, dtype: np.dtype[Any]
) -> Array:
    """Return public numbers [repeats, count] with random signs and the magnitude `factor`, in a ring.

    place: another one gives other signs. balanced: whether each sum is zero, for which an odd count has a 0.
    """
    free = repeats * (count // 2 if balanced else count)
    bits = np.unpackbits(_expanded(seed, f"signs{place}", -(-free // 8)), count=free)
    signed = np.array([factor, -factor], dtype).take(bits)
    if not balanced:
        return signed.reshape(repeats, count)
    return np.concatenate([signed, -signed, np.zeros(1, dtype)]).take(_pairs(count, repeats))


@lru_cache(maxsize=16)
def _pairs(count: int, repeats: int) -> Array:
    """Return for each element of a balanced sum the place of its sign, of all signs, their negatives and 0.

    Each repeat has an order of the elements, always the same, which decides who gets opposite signs.
    """
    drawn = hashlib.shake_256(b"orders").digest(8 * count * repeats)
    orders = np.argsort(np.frombuffer(drawn, np.uint64).reshape(repeats, count), axis=1)
    free = count // 2
    half, each = np.divmod(orders, max(free, 1))
    places = half * (free * repeats) + each + free * np.arange(repeats)[:, None]
    return np.where(orders < 2 * free, places, 2 * free * repeats)


@local_step(
    lambda values, factors: absent((values.shape[0], factors.shape[-2], values.shape[1]), values.dtype)
)
def weighted(values: Array, factors: Array) -> Array:
    """Return sums (batch, repeats, rows) in the ring of the values.

    values: (batch, rows, n). factors: (repeats, n) or (batch, repeats, n).
    """
    return _weighted(values, factors, values.dtype)


@local_step(
    lambda values, factors, dtype: absent((values.shape[0], factors.shape[-2], values.shape[1]), dtype)
)
def lifted(values: Array, factors: Array, dtype: np.dtype[Any]) -> Array:
    """Return the same for values that are unsigned numbers, in a larger ring."""
    return _weighted(values.view(unsigned(8 * values.dtype.itemsize)), factors, dtype)


def _weighted(values: Array, factors: Array, dtype: np.dtype[Any]) -> Array:
    wide = factors.astype(dtype, copy=False)
    return backend().sums(values, wide if wide.ndim == 3 else wide[None])


@local_step(lambda values, bits: values)
def rounded(values: Array, bits: int) -> Array:
    """Return public numbers without their lowest bits."""
    half = (1 << bits) >> 1
    return (values + values.dtype.type(half)) >> values.dtype.type(bits)


def rows(value: Array, dims: Dimensions, left: bool) -> Array:
    """Return an operand of a dot_general as (batch, free, summed)."""
    summed, batch = (each[0 if left else 1] for each in dims)
    found = as_batches(value, summed, batch, last=left)
    return found if left else found.swapaxes(1, 2)


def sizes(left: tuple[int, ...], right: tuple[int, ...], dims: Dimensions) -> tuple[int, int, int, int]:
    """Return the sizes of a dot_general of these shapes: batch, left, right and summed dimensions."""
    frees = [
        math.prod([size for i, size in enumerate(each) if i not in (*dims[0][at], *dims[1][at])])
        for at, each in enumerate((left, right))
    ]
    batch, summed = (math.prod([left[i] for i in group[0]]) for group in (dims[1], dims[0]))
    return batch, frees[0], frees[1], summed
