"""A small classifier of pictures, which judges what a diffusion model has drawn. It runs in plaintext."""

from __future__ import annotations

from typing import Any

from flax import linen as nn


class Judge(nn.Module):
    """Return the logits [batch, classes] of pictures [batch, height, width, channels]."""

    classes: int = 10
    features: int = 16

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.Conv(self.features, (3, 3))(x))
        x = nn.relu(nn.Conv(2 * self.features, (3, 3), strides=(2, 2))(x))
        x = nn.relu(nn.Dense(2 * self.features)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(x)
