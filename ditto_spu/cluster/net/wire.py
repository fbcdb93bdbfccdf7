"""Messages between processes as bytes: a fixed prefix, a JSON header, then the tensors it lists.

Everything that is read is checked before anything is allocated for it: magic, version, kind, sequence number
and a checksum of the prefix; then the header's checksum; then that the tensors it lists fill the body.
The sequence number counts the messages of one direction of a connection, so that a lost, repeated or
reordered message is found at the next one.
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

VERSION = 2
MAX_HEADER = 1 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 16
MAX_ELEMENTS = 1 << 40
_MAGIC = b"DTTO"
_PREFIX = struct.Struct(
    "<4sBBQIQI"
)  # magic, version, kind, sequence, header and body bytes, header's checksum
_CHECKSUM = struct.Struct("<I")  # of the prefix
PREFIX_BYTES = _PREFIX.size + _CHECKSUM.size

KINDS = (
    "hello",  # who speaks, for which session, with which software
    "welcome",  # a party's own facts: the session is open
    "plan",  # a compiled plan, as data
    "planned",
    "hold",  # shares that serve many requests follow
    "held",
    "run",  # one request; shares of its inputs follow
    "ready",  # the parties agree: shares may move
    "shares",
    "done",  # masked shares of the outputs
    "tensors",  # between parties: what kernels send
    "error",  # what was asked is refused or has failed; says why
    "abort",  # between parties: the session is over; says why
    "ahead",  # deal for a later request; its public inputs follow, and to the dealer of masks their keys
    "dealt",  # what was dealt, and under which number it can be spent
    "ping",  # between parties: are you there?
    "pong",
    "tunnel",  # between parties: bytes of one connection between their processes of SPU
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

Array = NDArray[Any]
Named = tuple[str, Array]


@dataclass(frozen=True)
class Prefix:
    """What a message announces of itself."""

    kind: str
    header_bytes: int
    body_bytes: int
    header_checksum: int


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a header lists."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Message:
    """One message: its kind, the facts of its header and its tensors."""

    kind: str
    facts: Mapping[str, Any]
    tensors: tuple[Named, ...]


def pack(kind: str, sequence: int, facts: Mapping[str, Any], tensors: Sequence[Named] = ()) -> bytes:
    """Prefix and header; the tensors' bytes follow in their order."""
    for name, array in tensors:
        if str(array.dtype) not in DTYPES:
            raise LinkError(f"'{name}' is of dtype {array.dtype}, which no message carries")
    listed = [[name, str(array.dtype), list(array.shape)] for name, array in tensors]
    header = json.dumps({"facts": facts, "tensors": listed}, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER:
        raise LinkError(f"a header of {len(header)} bytes is too long: the limit is {MAX_HEADER}")
    body = sum(array.nbytes for _, array in tensors)
    prefix = _PREFIX.pack(_MAGIC, VERSION, KINDS.index(kind), sequence, len(header), body, zlib.crc32(header))
    return prefix + _CHECKSUM.pack(zlib.crc32(prefix)) + header


def read_prefix(data: bytes, sequence: int, max_body: int) -> Prefix:
    """Check the first PREFIX_BYTES of a message. LinkError says what is wrong with them."""
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
    """Facts and listed tensors. LinkError if the header was changed, or does not fit its body."""
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
