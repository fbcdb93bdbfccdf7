"""Read safetensors files: a header in JSON, then the bytes of all tensors, which are memory-mapped."""

from __future__ import annotations

import json
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.stored import Stored
from ditto_spu.errors import InputError

MAX_HEADER = 100_000_000  # bytes; the format's own limit
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
# Buffers such as counters and masks. A model that reads one as a weight gets its numbers as floats.
_OTHERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}
_DTYPES = _FLOATS | _OTHERS


def read(path: Path) -> dict[str, Stored]:
    """Return the tensors of a file by name, without reading their values.

    Raises InputError for a file that is no safetensors file, is cut short, or has a type without a meaning
    as float32, such as an 8-bit float of a quantised model.
    """
    try:
        mapped = np.memmap(path, np.uint8, mode="r")
        size = int(mapped[:8].view("<u8")[0])
        if size > min(MAX_HEADER, mapped.size - 8):
            raise ValueError("its header does not fit")
        header = json.loads(bytes(mapped[8 : 8 + size]))
        body = mapped[8 + size :]
        tensors = {
            name: _stored(path, name, entry, body) for name, entry in header.items() if name != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path} is no complete safetensors file ({error}): download or save it again"
        ) from None
    return tensors


def _stored(path: Path, name: str, entry: Any, body: NDArray[np.uint8]) -> Stored:
    kind, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if kind not in _DTYPES:
        raise InputError(
            f"{path} holds '{name}' as {kind}: save the model in float32, float16 or bfloat16 first"
        )
    if not 0 <= start <= stop <= body.size or stop - start != prod(shape) * np.dtype(_DTYPES[kind]).itemsize:
        raise ValueError(f"the bytes of '{name}' lie outside of it")
    return Stored(shape, partial(_values, body[start:stop], kind, shape))


def _values(raw: NDArray[np.uint8], kind: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values = np.frombuffer(raw, _DTYPES[kind]).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)
