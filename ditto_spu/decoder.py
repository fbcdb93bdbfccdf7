"""What generation needs of a model: a prompt in one call, then a token a call over a cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError


@dataclass(frozen=True)
class Decoder:
    """A causal language model as two functions of static shapes.

    prefill(params, one_hot, *, length) -> (logits, cache): one_hot [batch, prompt, vocabulary] holds the
        prompt; logits [batch, vocabulary] are those after it; the cache, any pytree, has room for `length`
        tokens.
    step(params, cache, one_hot, position) -> (logits, cache): one_hot [batch, 1, vocabulary] is the token at
        `position`, an integer that everyone may know.
    vocabulary: number of tokens. positions: how many tokens the model can hold.
    """

    prefill: Callable[..., tuple[Any, Any]]
    step: Callable[..., tuple[Any, Any]]
    vocabulary: int
    positions: int


def one_hot(ids: Any, vocabulary: int) -> NDArray[np.float32]:
    """Token ids [batch, length] as [batch, length, vocabulary]: what a client makes before it shares them."""
    ids = np.asarray(ids)
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"token ids are integers, not {ids.dtype}")
    if ids.size and not (ids.min() >= 0 and ids.max() < vocabulary):
        raise InputError(
            f"token ids from {ids.min()} to {ids.max()}, but those of this model are 0 to {vocabulary - 1}"
        )
    hot = np.zeros((*ids.shape, vocabulary), np.float32)
    np.put_along_axis(hot, ids[..., None], 1.0, axis=-1)
    return hot
