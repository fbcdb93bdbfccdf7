"""Stack the layers of a decoder."""

from __future__ import annotations

from typing import Any

from flax import linen as nn


class Layers(nn.Module):
    """Compute all layers, which have numbers as names, and collect the keys and values of each.

    layer: a module of `config` that takes (x, positions, allowed, cache) and returns (x, keys and values).
    """

    layer: type[nn.Module]
    config: Any

    @nn.compact
    def __call__(self, x: Any, positions: Any, allowed: Any, cache: Any) -> tuple[Any, Any]:
        after = []
        for n in range(self.config.layers):
            before = None if cache is None else cache[n]
            x, kept = self.layer(self.config, name=str(n))(x, positions, allowed, before)
            after.append(kept)
        return x, tuple(after)
