"""Encodes messages between processes as bytes: a fixed prefix, a JSON header, then the tensors it lists.

The reader checks everything before it allocates memory for it. It first checks the prefix: magic, checksum,
version, kind, sequence number and announced sizes. It then checks the header's checksum, and that the listed
tensors fill the body exactly. The sequence number counts the messages in one direction of a connection, so
the next message reveals that one was lost, repeated or reordered.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.link import LinkError

VERSION = 4
MAX_HEADER = 1 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 1 << 40
_MAGIC = b"DTTO"
_PREFIX = struct.Struct(
    "<4sBBQIQI"
)  # magic, version, kind, sequence number, bytes of the header, bytes of the body, checksum of the header
_CHECKSUM = struct.Struct("<I")  # of the prefix
PREFIX_BYTES = _PREFIX.size + _CHECKSUM.size

KINDS = (
    "hello",  # the sender's name, session and software
    "welcome",  # the session is open; carries the party's own facts
    "plan",  # a compiled plan, as data
    "planned",
    "hold",  # shares for many requests follow
    "held",
    "run",  # one request; the shares of its inputs follow
    "ready",  # the parties agree, so shares may move
    "shares",
    "done",  # re-randomised shares of the outputs
    "tensors",  # between parties: the tensors of kernels
    "error",  # the request is refused or has failed; carries the reason
    "abort",  # between parties: the session is over; carries the reason
    "ahead",  # deal for a later request; its public inputs follow, and keys of masks to their dealer
    "dealt",  # the sizes of the material, and the number under which a request spends it
    "ping",  # between parties: are you there?
    "pong",
    "tunnel",  # between parties: bytes of one connection between their SPU processes
    "drop",  # forget held weights
    "dropped",
    "list",  # which weights does the client own, and which may it use?
    "listed",
)
DTYPES = {
    str(dtype): dtype
    for dtype in map(
        np.dtype,
        (
            *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            *("float16", "float32", "float64"),
        ),
    )
}

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_as_json = json.JSONEncoder(separators=(",", ":")).encode

Array = NDArray[Any]
Named = tuple[str, Array]


@dataclass(frozen=True)
class Prefix:
    """Holds the kind, sizes and header checksum that a message's prefix announces."""

    kind: str
    header_bytes: int
    body_bytes: int
    header_checksum: int


@dataclass(frozen=True)
class TensorSpec:
    """Describes a tensor that a header lists."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Message:
    """Holds one message: its kind, the facts of its header, and its tensors."""

    kind: str
    facts: Mapping[str, Any]
    tensors: tuple[Named, ...]


def pack(kind: str, sequence: int, facts: Mapping[str, Any], tensors: Sequence[Named] = ()) -> bytes:
    """Return the bytes of a message's prefix and header.

    The caller sends the tensors' bytes after them, in the same order. Raises LinkError if a tensor has a
    dtype that no message carries, or the header is longer than MAX_HEADER bytes.
    """
    for name, array in tensors:
        if array.dtype not in _NAMES:
            raise LinkError(f"'{name}' is of dtype {array.dtype}, which no message carries")
    listed = [(name, _NAMES[array.dtype], array.shape) for name, array in tensors]
    header = _as_json({"facts": facts, "tensors": listed}).encode()
    if len(header) > MAX_HEADER:
        raise LinkError(f"a header of {len(header)} bytes is too long: the limit is {MAX_HEADER}")
    body = sum(array.nbytes for _, array in tensors)
    number = _KIND_NUMBERS[kind]
    prefix = _PREFIX.pack(_MAGIC, VERSION, number, sequence, len(header), body, zlib.crc32(header))
    return prefix + _CHECKSUM.pack(zlib.crc32(prefix)) + header


def read_prefix(data: bytes, sequence: int, max_body: int) -> Prefix:
    """Check and return the prefix in the first PREFIX_BYTES of a message.

    `sequence` is the number that the message must have, and `max_body` the limit on its body in bytes. Raises
    LinkError with the first fault.
    """
    (checksum,) = _CHECKSUM.unpack_from(data, _PREFIX.size)
    magic, version, kind, number, header, body, header_checksum = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise LinkError("what arrived is no message of this protocol")
    if checksum != zlib.crc32(data[: _PREFIX.size]):
        raise LinkError("a message's first bytes were changed on the way (checksum)")
    if version != VERSION:
        raise LinkError(f"the message is of version {version} of the protocol, not {VERSION}")
    if kind >= len(KINDS):
        raise LinkError(f"there is no kind {kind} of messages")
    if number != sequence:
        raise LinkError(f"message {number} arrived in place of {sequence}: lost, repeated or reordered")
    if header > MAX_HEADER or body > max_body:
        raise LinkError(
            f"a message announces {header} + {body} bytes; the limits are {MAX_HEADER} + {max_body}"
        )
    return Prefix(KINDS[kind], header, body, header_checksum)


def read_header(prefix: Prefix, data: bytes) -> tuple[Mapping[str, Any], tuple[TensorSpec, ...]]:
    """Return a header's facts and listed tensors. Raises LinkError if it was changed or misfits its body."""
    if zlib.crc32(data) != prefix.header_checksum:
        raise LinkError("a message's header was changed on the way (checksum)")
    try:
        header = json.loads(data)
        facts, listed = header["facts"], header["tensors"]
        if not isinstance(facts, dict) or not isinstance(listed, list) or len(listed) > MAX_TENSORS:
            raise ValueError("facts or list of tensors")
        specs = tuple(_spec(*each) for each in listed)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LinkError(f"a message's header is malformed: {error}") from None
    if sum(each.nbytes for each in specs) != prefix.body_bytes:
        raise LinkError("the tensors that a header lists do not fill the message's body")
    return facts, specs


def _spec(name: Any, dtype: Any, shape: Any) -> TensorSpec:
    if not isinstance(name, str) or dtype not in DTYPES:
        raise ValueError(f"tensor of dtype {dtype!r:.40}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise ValueError("shape of a tensor")
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("shape of a tensor")
    if math.prod(max(1, size) for size in shape) > MAX_ELEMENTS:
        raise ValueError("a tensor too large")
    return TensorSpec(name, DTYPES[dtype], tuple(shape))
