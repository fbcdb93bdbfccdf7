"""Public random coefficients, and sums of ring elements weighted with them."""

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


@dataclass(frozen=True)
class Coefficients:
    """The public coefficients of a sum: odd and random, base [count, 12] times mix [12, REPEATS].

    base: odd numbers from -3 to 3, always the same. mix: small random numbers of one request.
    """

    base: Array
    mix: Array

    @cached_property
    def whole(self) -> Array:
        """The coefficients [count, REPEATS] themselves, below 300 in magnitude."""
        return _product(self.base, self.mix)


@local_step(lambda base, mix: absent((base.shape[0], REPEATS), _SMALL))
def _product(base: Array, mix: Array) -> Array:
    return np.matmul(base, mix)


@lru_cache(maxsize=64)
def _base(count: int) -> Array:
    drawn = np.frombuffer(hashlib.shake_256(b"base").digest(count * _BASES), np.uint8) & np.uint8(3)
    return (2 * drawn.astype(np.int16) - 3).reshape(count, _BASES)


@local_step(lambda seed: absent((_BASES, REPEATS), _SMALL))
def _mix(seed: Array) -> Array:
    """Return numbers from -8 to 7, expanded from the seed, with an odd sum in each column."""
    drawn = np.frombuffer(hashlib.shake_256(seed.tobytes()).digest(_BASES * REPEATS), np.uint8)
    mix = (drawn & np.uint8(15)).astype(np.int16).reshape(_BASES, REPEATS) - np.int16(8)
    mix[0] ^= (mix.sum(axis=0) & 1) ^ 1
    return mix


def coefficients(party: Party, counts: Sequence[int]) -> Protocol[list[Coefficients]]:
    """Draw public coefficients for sums of so many elements. No value of the request depends on them.

    D and A draw a seed, and D tells B in the offline phase.
    """
    mix = _mix((yield from _seed(party)))
    made = {count: Coefficients(_base(count), mix) for count in set(counts)}
    return [made[count] for count in counts]


def few_coefficients(party: Party, count: int, repeats: int) -> Protocol[Array]:
    """Draw public coefficients [count, repeats] that are odd and at most 7 in magnitude."""
    return _few((yield from _seed(party)), count, repeats)


def random_signs(party: Party, kinds: Sequence[tuple[int, bool, int]]) -> Protocol[list[Array]]:
    """Draw public signs [count, repeats] for each kind.

    kinds: the count, whether the signs of each column have the sum 0, and the repeats. If they have, an odd
        count has a 0.
    """
    seed = yield from _seed(party)
    return [_signs(seed, place, *kind) for place, kind in enumerate(kinds)]


@local_step(lambda seed, place, count, balanced, repeats: absent((count, repeats), _SMALL))
def _signs(seed: Array, place: int, count: int, balanced: bool, repeats: int) -> Array:
    free = count // 2 if balanced else count
    stream = hashlib.shake_256(seed.tobytes() + place.to_bytes(4, "little")).digest(free * repeats)
    signs = (2 * (np.frombuffer(stream, np.uint8) & np.uint8(1)).astype(np.int16) - 1).reshape(free, repeats)
    if not balanced:
        return signs
    paired = np.zeros((count, repeats), np.int16)
    paired[:free], paired[free : 2 * free] = signs, -signs
    return np.take_along_axis(paired, _orders(count, repeats), axis=0)


@lru_cache(maxsize=16)
def _orders(count: int, repeats: int) -> Array:
    """Return an order of so many elements for each column, always the same, which mixes pairs."""
    drawn = hashlib.shake_256(b"orders").digest(8 * count * repeats)
    return np.argsort(np.frombuffer(drawn, np.uint64).reshape(count, repeats), axis=0)


def _seed(party: Party) -> Protocol[Array]:
    name = "coefficients"
    if party.role == "B":
        (seed,) = yield Dealing((), (party.expect(party.dealer, name, (_SEED,), _BYTE),))
    else:
        seed = party.draw(party.dealer + 1, name, (_SEED,), _BYTE)
        told = party.role == "D" and party.phase != "online"
        yield Dealing((party.send(party.b, name, seed, offline=True),) if told else ())
    return seed


@local_step(lambda seed, count, repeats: absent((count, repeats), _SMALL))
def _few(seed: Array, count: int, repeats: int) -> Array:
    drawn = np.frombuffer(hashlib.shake_256(seed.tobytes()).digest(count * repeats), np.uint8)
    return (2 * (drawn & np.uint8(7)).astype(np.int16) - 7).reshape(count, repeats)


@local_step(lambda values, factors: absent((*values.shape[:2], factors.shape[-1]), values.dtype))
def weighted(values: Array, factors: Array) -> Array:
    """Return values (batch, rows, n) times factors (n, few) or (batch, n, few), in the ring of the values."""
    return _weighted(values, factors, values.dtype)


@local_step(lambda values, factors, dtype: absent((*values.shape[:2], factors.shape[-1]), dtype))
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


def sizes(left: Any, right: Any, dims: Dimensions) -> tuple[int, int, int]:
    """Return the sizes of a dot_general's result: batch, left and right free dimensions."""
    frees = [
        math.prod([size for i, size in enumerate(each.shape) if i not in (*dims[0][at], *dims[1][at])])
        for at, each in enumerate((left, right))
    ]
    return math.prod([left.shape[i] for i in dims[1][0]]), frees[0], frees[1]
