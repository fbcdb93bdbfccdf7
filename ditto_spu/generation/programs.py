"""Make the programs of a generator: for the prompt, for further tokens, and for more room."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.api import SecureFunction, secure
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


def held_arguments(decoder: Decoder, params: Any, prefix: Any) -> dict[str, Any]:
    """Return the arguments that are shared once: the parameters, and the cache of a prefix that is not None.

    Raises InputError as `prefix_cache` does.
    """
    held = {"params": params}
    return held if prefix is None else held | {"prefix": prefix_cache(decoder, params, prefix)}


def secured(
    decoder: Decoder, held: dict[str, Any], *, secret: bool, **options: Any
) -> tuple[SecureFunction, SecureFunction]:
    """Return both programs as secure functions that hold what `held_arguments` returned.

    secret: as in `programs`. options: those of `secure`.

    Raises InputError as `programs` does.
    """
    first, step = programs(decoder, secret=secret, prefixed="prefix" in held)
    rows = ("rows",) if decoder.ragged else ()
    prefill = secure(first, public=rows, static_argnames=("length",), **options).hold(**held)
    return prefill, secure(step, public=("position", *rows), **options).hold_with(prefill, "params")


def first_arguments(decoder: Decoder, hot: Any, rows: NDArray[np.int32], length: int) -> dict[str, Any]:
    """Return the arguments of the first program, besides those that it holds.

    hot: texts [batch, tokens, vocabulary]. length: the room of the cache.
    rows: which tokens' logits are wanted [batch, wanted]. A decoder that is not ragged does not take them.
    """
    return {"one_hot": hot, "length": length, **_rows(decoder, rows)}


def step_arguments(
    decoder: Decoder, cache: Any, hot: Any, position: NDArray[np.int32], rows: NDArray[np.int32]
) -> dict[str, Any]:
    """Return the arguments of the second program, as `first_arguments` does.

    position: the place of the first token of each text [batch]; all are equal unless the decoder is ragged.
    """
    at = position if decoder.ragged else position[0]
    return {"cache": cache, "one_hot": hot, "position": at, **_rows(decoder, rows)}


def _rows(decoder: Decoder, rows: NDArray[np.int32]) -> dict[str, Any]:
    return {"rows": rows} if decoder.ragged else {}


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
