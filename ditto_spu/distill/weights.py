"""Convert weights between a dictionary by path, a safetensors file and the pytree that a model takes."""

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
    """Flatten nested dictionaries of arrays to one dictionary by path.

    A path looks like `encoder/layer/0/attention/self/query/kernel`. Raises InputError if a name contains a
    slash.
    """
    flat: Flat = {}
    for key, value in tree.items():
        if "/" in str(key):
            raise InputError(f"a weight's name holds a slash: '{key}'")
        path = f"{prefix}{key}"
        flat |= flatten(value, f"{path}/") if isinstance(value, Mapping) else {path: value}
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuild the nested dictionaries from a dictionary by path."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *above, last = path.split("/")
        place = tree
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return tree


def divide(flat: Flat, frozen: Sequence[str]) -> tuple[Flat, Flat]:
    """Divide weights into (trainable, frozen).

    A weight is frozen if a pattern matches its whole path, or if it does not hold floats. Raises InputError
    for a pattern that matches no weight.
    """
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
    """Read a file that `save_weights` wrote, as nested dictionaries.

    Raises InputError if there is no file, or if it is not in the safetensors format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return unflatten(load_file(str(path)))
    except FileNotFoundError:
        raise InputError(f"there are no weights at '{path}'") from None
    except SafetensorError as error:
        raise InputError(f"'{path}' holds no weights in the safetensors format: {error}") from None
