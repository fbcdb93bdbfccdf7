"""Make the two programs of a generator: one for the prompt, and one for a further token."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder, check_ids, one_hot

Program = Callable[..., Any]


def programs(decoder: Decoder, *, secret: bool, prefixed: bool) -> tuple[Program, Program]:
    """Return the programs `first(params, one_hot, *, length)` and `step(params, cache, one_hot, position)`.

    Both return (logits, cache), as `Decoder` says.

    secret: whether the programs choose the likeliest token themselves. They then return (ids [batch], cache,
        one-hot token [batch, 1, vocabulary]).
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


def _choosing(decoder: Decoder, first: Program, prefixed: bool) -> tuple[Program, Program]:
    import jax
    import jax.numpy as jnp

    def chosen(logits: Any, cache: Any) -> tuple[Any, Any, Any]:
        with jax.named_scope("next_token"):
            hot = jax.nn.one_hot(jnp.argmax(logits, axis=-1), decoder.vocabulary, dtype=logits.dtype)
            ids = jnp.sum(hot * jnp.arange(decoder.vocabulary).astype(hot.dtype), axis=-1)
        return ids, cache, hot[:, None]

    def prefill(params: Any, one_hot: Any, *, length: int) -> tuple[Any, Any, Any]:
        return chosen(*first(params, one_hot, length=length))

    def follow(params: Any, prefix: Any, one_hot: Any, *, length: int) -> tuple[Any, Any, Any]:
        return chosen(*first(params, prefix, one_hot, length=length))

    def step(params: Any, cache: Any, one_hot: Any, position: Any) -> tuple[Any, Any, Any]:
        return chosen(*decoder.step(params, cache, one_hot, position))

    return follow if prefixed else prefill, step
