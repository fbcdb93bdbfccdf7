"""Values of ring 32 that are multiples of 2^8 are dealt in three bytes.

Their shares are multiples of 2^8, too, so that a share is a number of 24 bits. Sums and products with public
integers stay right in ring 32. A message has the lower 16 bits of all these numbers, and then their upper 8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ditto_kernels.machine.fused import fused
from ditto_kernels.protocol.party import Dealing, Party, Protocol
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array

SHORT = 8  # so many low bits are zero
_BYTE, _LOWER = np.dtype(np.uint8), np.dtype(np.uint16)


def _parts(message: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return (lower, upper) bits of the numbers in a message."""
    if is_absent(message):
        return absent(shape, _LOWER), absent(shape, _BYTE)
    size = math.prod(shape)
    return message[: 2 * size].view(_LOWER).reshape(shape), message[2 * size :].reshape(shape)


def joined(lower: Array, upper: Array) -> Array:
    """Return the share in ring 32, in a fused step."""
    return (lower.astype(np.int32) << SHORT) | (upper.astype(np.int32) << SHORT + 16)


@fused()
def _difference(value: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    rest = value - joined(lower, upper)
    return (rest >> SHORT).astype(np.uint16), (rest >> SHORT + 16).astype(np.uint8)


def _padded(value: Array, pad: Array) -> Array:
    if is_absent(pad):
        return pad
    lower, upper = _difference(value.reshape(-1), *_parts(pad, (value.size,)))
    return np.concatenate([lower.view(_BYTE), upper])


def deal_short(
    party: Party, names: Sequence[str], shape: tuple[int, ...], make: Callable[[], Sequence[Array]]
) -> Protocol[list[tuple[Array, Array]]]:
    """Deal multiples of 2^8 in ring 32 and return (lower, upper) of each share: see `joined`.

    Cost: 24 bits an element offline, and no round. Security: that of `deal`, with pads of 24 bits.
    """
    if not names:
        return []
    size = 3 * math.prod(shape)
    if party.role == "B":
        received = yield Dealing(
            (), tuple(party.expect(party.dealer, name, (size,), _BYTE) for name in names)
        )
        return [_parts(each, shape) for each in received]
    if party.role == "D" and party.phase == "online":
        yield Dealing()
        return [_parts(absent((size,), _BYTE), shape) for _ in names]
    pads = [party.draw(party.a, f"deal {name}", (size,), _BYTE) for name in names]
    if party.role == "A":
        yield Dealing()
        return [_parts(each, shape) for each in pads]
    values = pads if is_absent(pads[0]) else make()
    yield Dealing(
        tuple(
            party.send(party.b, name, _padded(value, pad), offline=True)
            for name, value, pad in zip(names, values, pads, strict=True)
        )
    )
    return [_parts(absent((size,), _BYTE), shape) for _ in names]
