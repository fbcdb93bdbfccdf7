"""Let typed random keys (`jax.random.key`) be arguments: parties take the numbers inside of them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def is_key(leaf: Any) -> bool:
    """Tell whether a leaf of a call is a typed random key, or several of them."""
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def numbers(leaf: Any) -> Any:
    """Return the numbers of a random key, and every other leaf as it is.

    A jax.ShapeDtypeStruct of keys becomes that of their numbers.
    """
    if not is_key(leaf):
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.eval_shape(jax.random.key_data, leaf)
    return np.asarray(jax.random.key_data(leaf))
