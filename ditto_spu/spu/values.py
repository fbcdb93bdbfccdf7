"""Convert between our replicated shares and SPU's values (ABY3 over Z_2^64, 18 fraction bits)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import spu
from numpy.typing import NDArray
from spu import libspu

from ditto_kernels.values import formats as ring
from ditto_kernels.values import replicated as rss
from ditto_spu.errors import CompileError, UnsupportedOpError

FRACTION_BITS = 18
ARITHMETIC = "aby3.AShr<FM64>"
PUBLIC = "Pub2k<FM64>"

KINDS: dict[str, libspu.DataType] = {
    "f32": libspu.DataType.DT_F32,
    "f64": libspu.DataType.DT_F64,
    "bool": libspu.DataType.DT_I1,
    "int8": libspu.DataType.DT_I8,
    "int16": libspu.DataType.DT_I16,
    "int32": libspu.DataType.DT_I32,
    "int64": libspu.DataType.DT_I64,
    "uint8": libspu.DataType.DT_U8,
    "uint16": libspu.DataType.DT_U16,
    "uint32": libspu.DataType.DT_U32,
    "uint64": libspu.DataType.DT_U64,
}
FORMAT = ring.Fxp(64, FRACTION_BITS)
_FLOATS = {"f32": np.float32, "f64": np.float64}
_NAMES = {data_type: kind for kind, data_type in KINDS.items()}
_ELEMENTS = {"f32": "f32", "f64": "f64", "bool": "i1"} | {
    f"{sign}int{bits}": f"{'ui' if sign else 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


class Shared(NamedTuple):
    """One party's part of a tensor: components i and i + 1 as int64, and their kind.

    Floats are fixed point with 18 fraction bits, integers have none, and booleans are the integers 0 and 1.
    """

    mine: NDArray[np.int64]
    next: NDArray[np.int64]
    kind: str


def share(array: Any) -> tuple[Shared, Shared, Shared]:
    """Split an array among the three parties. This runs at the client.

    Raises UnsupportedOpError for a dtype that SPU does not have.
    """
    values = np.asarray(array)
    kind = {"float32": "f32", "float64": "f64"}.get(str(values.dtype), str(values.dtype))
    if kind not in KINDS:
        raise UnsupportedOpError(f"SPU has no values of dtype {values.dtype}: use one of {', '.join(KINDS)}")
    elements = ring.encode(values, FORMAT) if kind in _FLOATS else values.astype(np.int64)
    first, second, third = (
        Shared(part.mine, part.next, kind) for part in rss.share(elements, FORMAT, secrets.token_bytes)
    )
    return first, second, third


def reconstruct(parts: Sequence[Shared]) -> NDArray[Any]:
    """Return the array that three parties share. This runs at the client.

    Integers wrap to the bits of their kind.
    """
    kind = parts[0].kind
    elements = rss.reconstruct([rss.Rss(part.mine, part.next, FORMAT) for part in parts])
    if kind in _FLOATS:
        return ring.decode(elements, FORMAT).astype(_FLOATS[kind])
    return elements.astype(kind)


def element_type(kind: str) -> str:
    """Return the StableHLO element type of a kind, such as `i1` for `bool`."""
    return _ELEMENTS[kind]


def kind_of(element: str) -> str:
    """Return the kind of a StableHLO element type, such as `bool` for `i1`."""
    return next(kind for kind, known in _ELEMENTS.items() if known == element)


def tensor_type(shape: Sequence[int], element: str) -> str:
    """Return a StableHLO tensor type, such as `tensor<2x3xf32>`."""
    return f"tensor<{''.join(f'{size}x' for size in shape)}{element}>"


def to_share(value: Shared) -> libspu.Share:
    """Return our shares in SPU's form: the content is party i's (x_i, x_{i+1}), interleaved.

    Raises UnsupportedOpError for an unknown kind, and CompileError unless both components are int64 arrays of
    one shape.
    """
    if value.kind not in KINDS:
        raise UnsupportedOpError(f"SPU has no values of kind '{value.kind}': use one of {', '.join(KINDS)}")
    mine, following = np.asarray(value.mine), np.asarray(value.next)
    if mine.dtype != np.int64 or following.dtype != np.int64 or mine.shape != following.shape:
        raise CompileError(
            f"SPU takes two int64 components of one shape, not {mine.dtype}{list(mine.shape)} and "
            f"{following.dtype}{list(following.shape)}: cast to ring 64 first"
        )
    meta = libspu.ValueMeta()
    meta.data_type = KINDS[value.kind]
    meta.visibility = libspu.Visibility.VIS_SECRET
    meta.shape = list(mine.shape)
    meta.storage_type = ARITHMETIC
    share = libspu.Share()
    share.meta = meta.SerializeToString()
    if mine.size:
        pairs = np.empty((*mine.shape, 2), dtype=np.int64)
        pairs[..., 0] = mine
        pairs[..., 1] = following
        chunk = libspu.ValueChunk()
        chunk.total_bytes = pairs.nbytes
        chunk.chunk_offset = 0
        chunk.content = pairs.tobytes()
        share.share_chunks = [chunk.SerializeToString()]
    else:
        share.share_chunks = []
    return share


def read_meta(share: libspu.Share) -> tuple[str, str, tuple[int, ...]]:
    """Return (storage type, kind, shape) of an SPU value."""
    meta = libspu.ValueMeta()
    meta.ParseFromString(share.meta)
    return meta.storage_type, _NAMES[meta.data_type], tuple(meta.shape.dims)


def from_share(share: libspu.Share, rank: int) -> Shared:
    """Return an arithmetic or public SPU value in our form.

    A public value enters as component 0 alone. Raises CompileError for any other storage.
    """
    storage, kind, shape = read_meta(share)
    content = _content(share)
    if storage == ARITHMETIC:
        pairs = content.reshape((*shape, 2))
        return Shared(pairs[..., 0].copy(), pairs[..., 1].copy(), kind)
    if storage == PUBLIC:
        value = content.reshape(shape).copy()
        nothing = np.zeros(shape, dtype=np.int64)
        return Shared(value if rank == 0 else nothing, value if rank == 2 else nothing, kind)
    raise CompileError(f"SPU returned a value stored as '{storage}', which is not an arithmetic share")


def public_share(value: Any, rank: int, io: spu.Io) -> libspu.Share:
    """Return a public array in SPU's form, encoded as SPU itself encodes it."""
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    return io.make_shares(array, libspu.Visibility.VIS_PUBLIC)[rank]


def _content(share: libspu.Share) -> NDArray[np.int64]:
    parts = []
    for data in share.share_chunks:
        chunk = libspu.ValueChunk()
        chunk.ParseFromString(data)
        parts.append((chunk.chunk_offset, chunk.content))
    return np.frombuffer(b"".join(content for _, content in sorted(parts)), dtype=np.int64)
