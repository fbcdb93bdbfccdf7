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


def check_ids(ids: Any, vocabulary: int) -> NDArray[np.int64]:
    """Token ids as [batch, length]; InputError for what is none."""
    ids = np.asarray(ids)
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"token ids are integers, not {ids.dtype}")
    if ids.ndim not in (1, 2) or not ids.size:
        raise InputError(f"token ids of shape {ids.shape}: give [batch, length], at least one token a text")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise InputError(
            f"token ids from {ids.min()} to {ids.max()}, but those of this model are 0 to {vocabulary - 1}"
        )
    return np.atleast_2d(ids).astype(np.int64)


def one_hot(ids: Any, vocabulary: int) -> NDArray[np.float32]:
    """Token ids [batch, length] as [batch, length, vocabulary]: what a client makes before it shares them."""
    checked = check_ids(ids, vocabulary)
    hot = np.zeros((*checked.shape, vocabulary), np.float32)
    np.put_along_axis(hot, checked[..., None], 1.0, axis=-1)
    return hot
