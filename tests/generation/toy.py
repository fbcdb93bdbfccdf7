"""A decoder that compiles fast: its logits are a sum over the text, in which near tokens weigh more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import ditto_spu as ditto
from ditto_spu.architectures.attention import causal, places_from, remember

WORDS = 50


def table(seed: int = 5) -> np.ndarray:
    """Return weights with which tokens vary and the likeliest one is clear."""
    return np.random.default_rng(seed).integers(-64, 64, (WORDS, WORDS)).astype(np.float32) / 8


def decoder(positions: int = 300) -> ditto.Decoder:
    """Return the decoder, which takes texts of unequal lengths."""

    def run(params: Any, hot: Any, start: Any, cache: Any, rows: Any) -> tuple[Any, Any]:
        import jax.numpy as jnp

        value = (hot @ params)[:, :, None]
        places = places_from(start, hot.shape[1])
        kept = remember(cache, value, value, places)
        seen = causal(places, None, None if cache is None else [cache])
        back = places[..., :, None] - jnp.arange(kept[0].shape[1])
        weights = jnp.where(seen, 1 / (1 + jnp.abs(back)), 0.0)
        weights = jnp.broadcast_to(weights, (len(hot), *weights.shape[1:]))
        logits = jnp.einsum("bqk,bkv->bqv", weights, kept[0][:, :, 0])
        if rows is None:
            return logits[:, -1], kept
        return jnp.take_along_axis(logits, rows[..., None], axis=1), kept

    def prefill(params: Any, one_hot: Any, rows: Any = None, *, length: int) -> tuple[Any, Any]:
        import jax.numpy as jnp

        logits, kept = run(params, one_hot, 0, None, rows)
        room = ((0, 0), (0, length - one_hot.shape[1]), (0, 0), (0, 0))
        return logits, tuple(jnp.pad(each, room) for each in kept)

    def step(params: Any, cache: Any, one_hot: Any, position: Any, rows: Any = None) -> tuple[Any, Any]:
        return run(params, one_hot, position, cache, rows)

    def follow(params: Any, prefix: Any, one_hot: Any, rows: Any = None, *, length: int) -> tuple[Any, Any]:
        import jax.numpy as jnp

        start = prefix[0].shape[1]
        room = ((0, 0), (0, length - start), (0, 0), (0, 0))
        cache = tuple(
            jnp.pad(jnp.broadcast_to(each, (len(one_hot), *each.shape[1:])), room) for each in prefix
        )
        return run(params, one_hot, start, cache, rows)

    return ditto.Decoder(prefill, step, WORDS, positions, follow, ragged=True)


def logits(params: np.ndarray, text: Sequence[int]) -> np.ndarray:
    """Return the logits after a text in float64."""
    weights = 1 / np.arange(len(text), 0, -1)
    return np.asarray(weights @ params.astype(np.float64)[list(text)])


def greedy(params: np.ndarray, text: Sequence[int], steps: int) -> list[int]:
    """Return the likeliest tokens after a text, none of which is near a second one."""
    ids = list(text)
    for _ in range(steps):
        found = logits(params, ids)
        assert np.diff(np.sort(found)[-2:]) > 0.01, ids
        ids.append(int(np.argmax(found)))
    return ids[len(text) :]
