"""Embed texts under MPC, one after another, padded to few lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.api import secure
from ditto_spu.cluster.client.client import ClusterClient
from ditto_spu.errors import InputError
from ditto_spu.gateway.refusals import Refusal
from ditto_spu.generation import rooms
from ditto_spu.models.loaded import LoadedModel


class Embedder:
    """A model of sentence embeddings.

    run: runs the secure function of ids and mask, and returns a result with `outputs`. The lengths of texts
    are public, in steps of eight tokens and more.
    """

    def __init__(self, model: LoadedModel, run: Callable[..., Any]) -> None:
        self._model, self._run = model, run
        self._most = model.config.positions - (model.config.first or 0)

    def ids(self, inputs: Sequence[str] | Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the ids of texts or checked ids. Raises Refusal for a text that is too long."""
        tokenizer, words = self._model.tokenizer, self._model.config.vocabulary
        found = [tokenizer.encode(each) if isinstance(each, str) else list(each) for each in inputs]
        for place, each in enumerate(found):
            if len(each) > self._most:
                raise Refusal(
                    f"input {place} has {len(each)} tokens, and the model holds {self._most}",
                    param="input",
                    code="context_length_exceeded",
                )
            if any(not 0 <= token < words for token in each):
                raise Refusal(f"input {place} has ids outside of 0 to {words - 1}", param="input")
        return found

    def embed(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the embedding [width] of one text."""
        length = rooms.tokens(max(len(ids), 2), self._most)
        padded = np.full((1, length), self._model.tokenizer.padding, np.int32)
        mask = np.zeros((1, length), np.int32)
        padded[0, : len(ids)], mask[0, : len(ids)] = ids, 1
        result: NDArray[np.float32] = np.asarray(self._run(ids=padded, mask=mask).outputs[0], np.float32)
        return result


def embedder(model: LoadedModel, cluster: ClusterClient | None, **options: Any) -> Embedder:
    """Return the embedder of a loaded checkpoint, in simulation or at the parties of a cluster.

    options: those of `secure`. Raises InputError for a model without embeddings.
    """
    if model.output != "embedding":
        raise InputError(
            f"{model.source} returns {model.output} and no embedding: give a model of sentence-transformers"
        )
    encode = secure(model.fn, public=model.public, **options).hold(params=model.params)
    if cluster is None:
        return Embedder(model, encode.run)
    return Embedder(model, lambda **arrays: cluster.run(encode, **arrays))
