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
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ditto_kernels.protocol import tuning

KEY_BYTES = 16
_NONCE_BYTES = 12  # The other four bytes of the counter block count blocks, up to 64 GiB per stream.
_BLOCK = 16
_FIRST_BLOCK = bytes(_BLOCK - _NONCE_BYTES)
_FEW_BLOCKS = 16
# `nonce.join(_COUNTERS[: n + 1])` is the first n counter blocks of a stream.
_COUNTERS = (b"", *(block.to_bytes(_BLOCK - _NONCE_BYTES, "big") for block in range(_FEW_BLOCKS)))
_ZEROS = memoryview(bytes(tuning.STREAM_BLOCK_BYTES))
_SPARE = 15  # The function update_into needs room for a block less one byte.


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

    def key(self, component: int) -> bytes:
        if component == self.rank:
            return self.mine
        if component == (self.rank + 1) % 3:
            return self.next
        raise ValueError(f"party {self.rank} does not hold the key of component {component}")


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
        pair = (keys.mine, keys.next)
        self._counting = {
            key: Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK))).encryptor() for key in pair
        }
        self._blocks = {key: Cipher(algorithms.AES(key), modes.ECB()).encryptor() for key in pair}

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
        nonce = hashlib.blake2b(self._prefix + label.encode(), digest_size=_NONCE_BYTES).digest()
        key, size = self._keys.key(component), math.prod(shape) * dtype.itemsize
        if 0 < size <= _FEW_BLOCKS * _BLOCK:
            # Few counter blocks are encrypted as they are, because setting a nonce takes longer.
            blocks = nonce.join(_COUNTERS[: 1 - -size // _BLOCK])
            few = bytearray(self._blocks[key].update(blocks))
            return np.frombuffer(few, dtype, size // dtype.itemsize).reshape(shape)
        cipher = self._counting[key]
        cipher.reset_nonce(nonce + _FIRST_BLOCK)  # A new cipher would take longer than most draws.
        if 0 < size <= tuning.COPIED_STREAM_BYTES:
            return np.frombuffer(bytearray(cipher.update(_ZEROS[:size])), dtype).reshape(shape)
        stream = np.empty(size + _SPARE, np.uint8)
        view = stream.data
        for start in range(0, size, len(_ZEROS)):
            count = min(len(_ZEROS), size - start)
            cipher.update_into(_ZEROS[:count], view[start : start + count + _SPARE])
        return stream[:size].view(dtype).reshape(shape)
