"""Attend: which tokens see which, the cache of keys and values, and the products."""

from __future__ import annotations

from typing import Any


def places_from(start: Any, length: int) -> Any:
    """Return the places of `length` tokens: [length] from one start, [batch, length] from those of rows."""
    import jax.numpy as jnp

    return jnp.asarray(start)[..., None] + jnp.arange(length)


def causal(positions: Any, mask: Any, cache: Any, window: int | None = None) -> Any:
    """Return which places a token sees, as booleans [batch or 1, length, places].

    positions: those of the tokens, [length] or [batch, length]. mask: [batch, length], 0 at padding, or None.
    cache: keys and values of each layer, or None if tokens see each other alone. window: how many tokens back
    a token sees.
    """
    import jax.numpy as jnp

    places = positions if cache is None else jnp.arange(cache[0][0].shape[1])
    back = positions[..., :, None] - places[..., None, :]
    seen = back >= 0
    if window is not None:
        seen = seen & (back < window)
    if seen.ndim == 2:
        seen = seen[None]
    return seen if mask is None else seen & (mask[:, None] > 0)


def remember(cache: Any, key: Any, value: Any, positions: Any) -> tuple[Any, Any]:
    """Write keys and values [batch, length, heads, width] into a layer's cache, and return all of both.

    positions: [length], or [batch, length] if rows stand at places of their own. Then tokens for which the
    cache has no room are left out.
    """
    import jax

    if cache is None:
        return key, value
    old_keys, old_values = cache
    if positions.ndim == 2:
        return _spread(old_keys, key, positions), _spread(old_values, value, positions)
    place = (0, positions[0], 0, 0)
    return (
        jax.lax.dynamic_update_slice(old_keys, key, place),
        jax.lax.dynamic_update_slice(old_values, value, place),
    )


def _spread(old: Any, new: Any, positions: Any) -> Any:
    """Write rows [batch, length, heads, width] at consecutive places that differ between texts."""
    import jax.numpy as jnp

    token = jnp.arange(old.shape[1]) - positions[:, :1]
    count = new.shape[1]
    found = jnp.take_along_axis(new, jnp.clip(token, 0, count - 1)[:, :, None, None], axis=1)
    return jnp.where(((token >= 0) & (token < count))[:, :, None, None], found, old)


def attend(query: Any, key: Any, value: Any, allowed: Any) -> Any:
    """Return the context of each token [batch, length, heads * width].

    query: [batch, length, heads, width]. key, value: [batch, places, shared, width], where each of `shared`
    heads serves a group of query heads. allowed: [batch or 1, length or 1, places].
    """
    import jax
    import jax.numpy as jnp

    batch, length, heads, width = query.shape
    shared = key.shape[2]
    if shared == heads:
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key)
        allowed = allowed[:, None]
    else:
        query = query.reshape(batch, length, shared, heads // shared, width)
        scores = jnp.einsum("...qhgd,...khd->...hgqk", query, key)
        allowed = allowed[:, None, None]
    scores = jnp.where(allowed, scores / width**0.5, jnp.finfo(scores.dtype).min)
    found = jax.nn.softmax(scores, axis=-1)
    if shared == heads:
        context = jnp.einsum("...hqk,...khd->...qhd", found, value)
    else:
        context = jnp.einsum("...hgqk,...khd->...qhgd", found, value)
    return context.reshape(batch, length, heads * width)
