"""Pseudo-random streams from pairwise keys: AES-128 in counter mode, addressed by name, not in sequence."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

KEY_BYTES = 16
_NONCE_BYTES = 12  # the other four bytes of the counter block count blocks: 64 GiB a stream
_BLOCK = 16
_FEW = 256  # blocks: up to so many a cipher of the key's own is cheaper than one made for the stream
_COUNTS = tuple(count.to_bytes(_BLOCK - _NONCE_BYTES, "big") for count in range(_FEW))
_ZEROS = memoryview(bytes(1 << 18))  # encrypted block by block: stays in the cache
_SPARE = 15  # update_into wants room for a block less one byte


class StreamReuseError(RuntimeError):
    """A stream was addressed twice: its bytes would mask two values."""


@dataclass(frozen=True)
class PairKeys:
    """Key j belongs to the two holders of component j: party i knows keys i (`mine`) and i + 1 (`next`)."""

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
    repeating, merging or reordering steps cannot shift it. Addressing one twice raises StreamReuseError.
    """

    def __init__(self, keys: PairKeys, session: str = "", request: str = "") -> None:
        self._keys = keys
        self._prefix = f"{session}/{request}/".encode()
        self._spent: set[tuple[int, str]] = set()
        self._ciphers = {
            key: Cipher(algorithms.AES(key), modes.ECB()).encryptor() for key in (keys.mine, keys.next)
        }

    def draw(self, component: int, label: str, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Uniform ring elements that both holders of `component` draw alike."""
        address = (component, label)
        if address in self._spent:
            raise StreamReuseError(
                f"stream '{label}' of component {component} was drawn twice in one request"
            )
        self._spent.add(address)
        nonce = hashlib.blake2b(self._prefix + label.encode(), digest_size=_NONCE_BYTES).digest()
        size = math.prod(shape) * dtype.itemsize
        if 0 < size <= _FEW * _BLOCK:
            return np.frombuffer(self._few(component, nonce, size), dtype, math.prod(shape)).reshape(shape)
        counter = modes.CTR(nonce + bytes(_BLOCK - _NONCE_BYTES))
        encryptor = Cipher(algorithms.AES(self._keys.key(component)), counter).encryptor()
        stream = np.empty(size + _SPARE, np.uint8)
        view = stream.data
        for start in range(0, size, len(_ZEROS)):
            count = min(len(_ZEROS), size - start)
            encryptor.update_into(_ZEROS[:count], view[start : start + count + _SPARE])
        return stream[:size].view(dtype).reshape(shape)

    def _few(self, component: int, nonce: bytes, size: int) -> bytearray:
        """The first blocks of the same stream: its counter blocks, encrypted one by one."""
        counters = nonce + nonce.join(_COUNTS[: -(-size // _BLOCK)])
        return bytearray(self._ciphers[self._keys.key(component)].update(counters))
