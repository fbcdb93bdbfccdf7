"""Define the interface of a model for generation: one call for the prompt, then one per further token."""

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
        prompt. The logits [batch, vocabulary] are those after it. The cache is any pytree and has room for
        `length` tokens.
    step(params, cache, one_hot, position) -> (logits, cache): one_hot [batch, 1, vocabulary] is the token at
        `position`, an integer that everyone may know.
    vocabulary: the number of tokens.
    positions: how many tokens the model can hold.
    follow(params, prefix, one_hot, *, length) -> (logits, cache): as `prefill`, for prompts that stand behind
        a prefix. `prefix` is the cache that `prefill` returns for one text of that length, without spare
        room. Every prompt of the batch follows the same prefix. None if the model takes no prefix.
    ragged: whether the functions also take texts of unequal lengths and several tokens at once. They have a
        parameter `rows` then, public integers [batch, wanted], which numbers the tokens of the call whose
        logits are returned, as [batch, wanted, vocabulary]. `step` takes any number of tokens, and a position
        for each text [batch], at which its first one stands. Tokens for which the cache has no room are
        padding, and leave no trace in it. The cache is a pytree of arrays [batch, places, ...].
    """

    prefill: Callable[..., tuple[Any, Any]]
    step: Callable[..., tuple[Any, Any]]
    vocabulary: int
    positions: int
    follow: Callable[..., tuple[Any, Any]] | None = None
    ragged: bool = False


def check_ids(ids: Any, vocabulary: int) -> NDArray[np.int64]:
    """Return token ids as [batch, length]; a single text [length] is accepted.

    Raises InputError for ids that are not integers, have another shape or lie outside the vocabulary.
    """
    ids = np.asarray(ids)
    if ids.ndim not in (1, 2) or not ids.size:
        raise InputError(f"token ids of shape {ids.shape}: give [batch, length], at least one token a text")
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"token ids are integers, not {ids.dtype}: encode text with the model's tokenizer")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise InputError(
            f"token ids from {ids.min()} to {ids.max()}, but those of this model are 0 to {vocabulary - 1}"
        )
    return np.atleast_2d(ids).astype(np.int64)


def check_texts(ids: Any, vocabulary: int) -> list[list[int]]:
    """Return token ids as a list for each text. Texts of unequal lengths are accepted as lists in a list.

    Raises InputError as `check_ids` does.
    """
    if isinstance(ids, list | tuple) and len({np.size(each) for each in ids}) > 1:
        return [check_ids(np.atleast_1d(each), vocabulary)[0].tolist() for each in ids]
    return check_ids(ids, vocabulary).tolist()


def one_hot(ids: Any, vocabulary: int) -> NDArray[np.float32]:
    """Return token ids [batch, length] as one-hot rows [batch, length, vocabulary].

    A client makes them before it shares them. Raises InputError as `check_ids` does.
    """
    checked = check_ids(ids, vocabulary)
    hot = np.zeros((*checked.shape, vocabulary), np.float32)
    np.put_along_axis(hot, checked[..., None], 1.0, axis=-1)
    return hot
