"""Turn queries and keys by their positions, as the Llama family does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ditto_spu.checkpoints.stored import Settings

SETTINGS = frozenset(["rope_theta", "rope_scaling", "rope_parameters", "rope_factors"])


def frequencies(settings: Settings, width: int) -> tuple[float, ...]:
    """Return the radians per token of each pair of a head of `width` elements.

    Reads rope_theta and rope_scaling, or rope_parameters, as config.json has them. The kinds of scaling are
    "linear", "llama3" and "dynamic"; the last one changes nothing within the model's positions. Raises
    InputError for others.
    """
    nested = settings.part("rope_parameters").values
    scaling = settings.part("rope_scaling").values or nested
    theta = Settings({**settings.values, **nested}, settings.source).number("rope_theta", 10000.0)
    found = theta ** -(np.arange(0, width, 2, dtype=np.float64) / width)
    usual = "default" if set(scaling) <= {"rope_theta"} else None
    options = Settings({"rope_type": scaling.get("type", usual), **scaling}, settings.source)
    kind = options.choice("rope_type", None, ("default", "linear", "llama3", "dynamic"))
    if kind == "linear":
        found = found / options.number("factor")
    if kind == "llama3":
        found = _llama3(found, options)
    if (factors := settings.values.get("rope_factors")) is not None:  # GGUF stores the scaling of llama3 so
        if not isinstance(factors, list) or len(factors) != width // 2:
            raise settings.wrong("rope_factors", factors, f"{width // 2} numbers")
        found = found / np.asarray(factors, np.float64)
    return tuple(found.tolist())


def _llama3(found: Any, options: Settings) -> Any:
    """Slow low frequencies down, keep high ones, and blend those between."""
    factor, old = options.number("factor"), options.whole("original_max_position_embeddings")
    low, high = options.number("low_freq_factor"), options.number("high_freq_factor")
    turns = old * found / (2 * math.pi)
    blend = np.clip((turns - low) / (high - low), 0, 1)
    return found * (blend + (1 - blend) / factor)


def turn(states: Any, positions: Any, speeds: tuple[float, ...]) -> Any:
    """Rotate states [batch, length, heads, width] by their public positions [length] or [batch, length]."""
    import jax.numpy as jnp

    angles = jnp.atleast_2d(positions)[..., None].astype(jnp.float32) * jnp.asarray(speeds, jnp.float32)
    angles = jnp.concatenate([angles, angles], axis=-1)[:, :, None]
    first, second = jnp.split(states, 2, axis=-1)
    return states * jnp.cos(angles) + jnp.concatenate([-second, first], axis=-1) * jnp.sin(angles)
