"""Streams of AES-128 in counter mode come from code made for the processor, or from OpenSSL."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from ditto_kernels.machine import tuning
from ditto_kernels.machine.aes_code import BLOCK, EXPAND, KEYS_BYTES, STREAM, module
from ditto_kernels.machine.fields import FIELD, elements_are_found

NONCE_BYTES = 12  # The other four bytes of the counter block count blocks, up to 64 GiB per stream.
_FIRST_BLOCK = bytes(BLOCK - NONCE_BYTES)
_FEW_BLOCKS = 16
# `nonce.join(_COUNTERS[: n + 1])` is the first n counter blocks of a stream.
_COUNTERS = (b"", *(block.to_bytes(BLOCK - NONCE_BYTES, "big") for block in range(_FEW_BLOCKS)))
_ZEROS = memoryview(bytes(tuning.STREAM_BLOCK_BYTES))
_ONE_AT_A_TIME = threading.Lock()  # Three simulated parties ask at once, and code is compiled once.
_SPARE = BLOCK - 1  # The function update_into needs room for a block less one byte.


class Streams(Protocol):
    """The streams of one key of 16 bytes."""

    def draw(self, nonce: bytes, size: int) -> NDArray[np.uint8]:
        """Return the first bytes of the stream of a nonce of 12 bytes, as a new array."""


def streams(key: bytes) -> Streams:
    """Return the streams of a key. They serve one thread at a time."""
    with _ONE_AT_A_TIME:
        made = _generated()
    return OpenSsl(key) if made is None else Generated(key, *made)


class OpenSsl:
    """Streams by OpenSSL, on every processor."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(BLOCK))).encryptor()
        self._blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()

    def draw(self, nonce: bytes, size: int) -> NDArray[np.uint8]:
        if 0 < size <= _FEW_BLOCKS * BLOCK:
            # Few counter blocks are encrypted as they are, because setting a nonce takes longer.
            blocks = nonce.join(_COUNTERS[: 1 - -size // BLOCK])
            return np.frombuffer(bytearray(self._blocks.update(blocks)), np.uint8, size)
        self._cipher.reset_nonce(nonce + _FIRST_BLOCK)  # A new cipher would take longer than most draws.
        if 0 < size <= tuning.COPIED_STREAM_BYTES:
            return np.frombuffer(bytearray(self._cipher.update(_ZEROS[:size])), np.uint8)
        stream = np.empty(size + _SPARE, np.uint8)
        view = stream.data
        for start in range(0, size, len(_ZEROS)):
            count = min(len(_ZEROS), size - start)
            self._cipher.update_into(_ZEROS[:count], view[start : start + count + _SPARE])
        return stream[:size]


class Generated:
    """Streams by generated code. `code` has its functions, whose vectors hold `wide` blocks."""

    def __init__(self, key: bytes, code: Any, wide: int) -> None:
        self._keys = np.empty(KEYS_BYTES, np.uint8)
        self._address = self._keys.ctypes.data
        self._code, self._wide = code, wide  # The code goes when nobody holds it.
        self._stream: Callable[..., None] = code.functions[STREAM.name]
        code.functions[EXPAND.name](self._address, key)

    def draw(self, nonce: bytes, size: int) -> NDArray[np.uint8]:
        vectors = -(-size // (BLOCK * self._wide))
        stream = np.empty(vectors * BLOCK * self._wide, np.uint8)
        self._stream(id(stream) + FIELD, self._address, nonce, vectors * self._wide)
        return stream[:size]


@functools.cache
def _generated() -> tuple[Any, int] | None:
    """Return (code for streams, blocks of a vector), or None where OpenSSL has to serve."""
    try:
        from ditto_kernels.machine.compile import compiled, processor

        target = processor()
        features = target.features.split(",")
        if not elements_are_found() or "+aes" not in features:
            return None
        wide = 1
        if "+vaes" in features:
            wide = target.vector_bytes // BLOCK
        code = compiled(module(wide), (EXPAND, STREAM), target)
    except (ImportError, OSError, RuntimeError):
        return None
    key, nonce, size = bytes(range(BLOCK)), bytes(range(NONCE_BYTES)), 1 << 12
    same = np.array_equal(Generated(key, code, wide).draw(nonce, size), OpenSsl(key).draw(nonce, size))
    return (code, wide) if same else None
