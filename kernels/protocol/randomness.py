"""Pseudo-random streams come from pairwise keys by AES-128 in counter mode, addressed by name.

Their order does not matter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine.streams import NONCE_BYTES, streams

KEY_BYTES = 16


class StreamReuseError(RuntimeError):
    """A stream was addressed twice, so that its bytes would mask two values."""


@dataclass(frozen=True)
class PairKeys:
    """Key j belongs to the two holders of component j.

    Party i knows keys i (`mine`) and i + 1 (`next`). Raises ValueError for a key of another length than
    KEY_BYTES.
    """

    rank: int
    mine: bytes = field(repr=False)
    next: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.mine) != KEY_BYTES or len(self.next) != KEY_BYTES:
            raise ValueError(f"a pairwise key has {KEY_BYTES} bytes")


class Randomness:
    """The streams of one party for one request.

    A stream is addressed by (component key, session, request, label). The label names step and purpose, so
    that repeating, merging or reordering steps cannot shift it. Addressing a stream twice raises
    StreamReuseError.
    """

    def __init__(self, keys: PairKeys, session: str = "", request: str = "") -> None:
        self._keys, self._session, self._request = keys, session, request
        self._prefix = f"{session}/{request}/".encode()
        self._spent: set[tuple[int, str]] = set()
        self._streams = {
            rank: streams(key) for rank, key in ((keys.rank, keys.mine), ((keys.rank + 1) % 3, keys.next))
        }

    def for_thread(self) -> Randomness:
        """Return the same streams for another thread, since ciphers serve one thread at a time.

        Both may draw a stream only if it masks the same value, as where a dealer deals what it uses online.
        """
        return Randomness(self._keys, self._session, self._request)

    def draw(self, component: int, label: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Draw uniform ring elements, the same at both holders of `component`."""
        address = (component, label)
        if address in self._spent:
            raise StreamReuseError(
                f"stream '{label}' of component {component} was drawn twice in one request"
            )
        self._spent.add(address)
        if component not in self._streams:
            raise ValueError(f"party {self._keys.rank} does not hold the key of component {component}")
        nonce = hashlib.blake2b(self._prefix + label.encode(), digest_size=NONCE_BYTES).digest()
        size = math.prod(shape) * dtype.itemsize
        return self._streams[component].draw(nonce, size).view(dtype).reshape(shape)
