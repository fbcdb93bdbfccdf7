"""Make the programs of a generator: for the prompt, for further tokens, and for more room."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder, check_ids, one_hot

Program = Callable[..., Any]


def programs(decoder: Decoder, *, secret: bool, prefixed: bool) -> tuple[Program, Program]:
    """Return the programs `first(params, one_hot, *, length)` and `step(params, cache, one_hot, position)`.

    Both return (logits, cache), as `Decoder` says, and have its parameter `rows` if the decoder is ragged.

    secret: whether the programs choose the likeliest token themselves. They then return (ids [batch], cache,
        one-hot token [batch, 1, vocabulary]), with a dimension more of ids for `rows`.
    prefixed: whether `first` has a parameter `prefix` behind `params`, as `Decoder.follow` has.

    Raises InputError if the decoder takes no prefix.
    """
    if prefixed and decoder.follow is None:
        raise InputError("this decoder takes no prefix: give it a function `follow` (docs/generation.md)")
    first = decoder.follow if prefixed and decoder.follow is not None else decoder.prefill
    return _choosing(decoder, first, prefixed) if secret else (first, decoder.step)


def prefix_cache(decoder: Decoder, params: Any, prefix: Any) -> Any:
    """Compute the cache of a public prefix in plaintext. Whoever has the weights does this, once.

    params: arrays, or shapes where the parties have the cache already. The result then has shapes, too.
    prefix: token ids [tokens] or [1, tokens]. Returns what `Decoder.follow` takes.

    Raises InputError for ids that do not fit, and for more than one text.
    """
    import jax

    ids = check_ids(prefix, decoder.vocabulary)
    if len(ids) != 1:
        raise InputError(f"a prefix of {len(ids)} texts: all texts follow one prefix, [tokens]")
    prefill = functools.partial(decoder.prefill, length=ids.shape[1])
    shapes = any(isinstance(each, jax.ShapeDtypeStruct) for each in jax.tree_util.tree_leaves(params))
    compute = functools.partial(jax.eval_shape, prefill) if shapes else jax.jit(prefill)
    return compute(params, one_hot(ids, decoder.vocabulary))[1]


def grown(caches: tuple[Any], *, length: int) -> tuple[Any]:
    """Pad a cache of arrays [batch, places, ...] with empty places. This is local at every party."""
    import jax
    import jax.numpy as jnp

    def padded(each: Any) -> Any:
        return jnp.pad(each, [(0, 0), (0, length - each.shape[1])] + [(0, 0)] * (each.ndim - 2))

    return jax.tree_util.tree_map(padded, caches)


def _choosing(decoder: Decoder, first: Program, prefixed: bool) -> tuple[Program, Program]:
    import jax
    import jax.numpy as jnp

    def chosen(logits: Any, cache: Any) -> tuple[Any, Any, Any]:
        with jax.named_scope("next_token"):
            hot = jax.nn.one_hot(jnp.argmax(logits, axis=-1), decoder.vocabulary, dtype=logits.dtype)
            ids = jnp.sum(hot * jnp.arange(decoder.vocabulary).astype(hot.dtype), axis=-1)
        return ids, cache, hot if hot.ndim == 3 else hot[:, None]

    def given(rows: Any) -> dict[str, Any]:
        return {} if rows is None else {"rows": rows}

    def prefill(params: Any, one_hot: Any, rows: Any = None, *, length: int) -> tuple[Any, Any, Any]:
        return chosen(*first(params, one_hot, length=length, **given(rows)))

    def follow(
        params: Any, prefix: Any, one_hot: Any, rows: Any = None, *, length: int
    ) -> tuple[Any, Any, Any]:
        return chosen(*first(params, prefix, one_hot, length=length, **given(rows)))

    def step(params: Any, cache: Any, one_hot: Any, position: Any, rows: Any = None) -> tuple[Any, Any, Any]:
        return chosen(*decoder.step(params, cache, one_hot, position, **given(rows)))

    return follow if prefixed else prefill, step
