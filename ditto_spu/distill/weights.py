"""Weights as a flat dictionary of paths, in a safetensors file, and as the pytree that a model takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ditto_spu.errors import InputError, nearest

Flat = dict[str, Any]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested dictionaries of arrays by path: `encoder/layer/0/attention/self/query/kernel`."""
    flat: Flat = {}
    for key, value in tree.items():
        if "/" in str(key):
            raise InputError(f"a weight's name holds a slash: '{key}'")
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dictionaries again."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, last = path.split("/")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def divide(flat: Flat, frozen: Sequence[str]) -> tuple[Flat, Flat]:
    """(trainable, frozen): frozen is what a pattern matches as a whole, and all that is no float."""
    for pattern in frozen:
        if not any(re.fullmatch(pattern, path) for path in flat):
            raise InputError(f"frozen pattern '{pattern}' matches no weight{nearest(pattern, flat)}")
    still = {
        path
        for path, value in flat.items()
        if not np.issubdtype(np.asarray(value).dtype, np.floating)
        or any(re.fullmatch(pattern, path) for pattern in frozen)
    }
    return {p: v for p, v in flat.items() if p not in still}, {p: v for p, v in flat.items() if p in still}


def save_weights(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write a pytree of dictionaries to a safetensors file."""
    from safetensors.numpy import save_file

    save_file({p: np.ascontiguousarray(v) for p, v in flatten(jax.device_get(dict(tree))).items()}, str(path))


def load_weights(path: str | Path) -> dict[str, Any]:
    """Read what `save_weights` wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return unflatten(load_file(str(path)))
    except FileNotFoundError:
        raise InputError(f"there are no weights at '{path}'") from None
    except SafetensorError as error:
        raise InputError(f"'{path}' holds no weights in the safetensors format: {error}") from None
