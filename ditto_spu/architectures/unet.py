"""A UNet that predicts the noise in a picture, in two parts: time embeddings, and everything else.

Timesteps are public. So the owner of the weights computes everything that is made of both in plaintext, for
all steps of a schedule at once (`UNet.conditions`). The parties compute `UNet.__call__` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ditto_spu.diffusion.denoiser import Denoiser

_LONGEST = 10_000.0  # the longest period of the sinusoids, in timesteps
_TIME_WIDTH = 4  # the width of the time embedding, in widths of the first level


def sinusoids(times: Any, width: int) -> Any:
    """Return sines and cosines of timesteps [steps], as [steps, width]."""
    half = width // 2
    angles = times[:, None].astype(jnp.float32) * jnp.exp(-math.log(_LONGEST) * jnp.arange(half) / half)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 beside the identity, or beside one of 1 x 1 if the width changes."""

    inputs: int
    features: int
    groups: int
    activation: Callable[[Any], Any]

    def setup(self) -> None:
        self.norm_in = nn.GroupNorm(num_groups=self.groups)
        self.conv_in = nn.Conv(self.features, (3, 3))
        self.project = nn.Dense(self.features)
        self.norm_out = nn.GroupNorm(num_groups=self.groups)
        self.conv_out = nn.Conv(self.features, (3, 3))
        if self.inputs != self.features:
            self.skip = nn.Conv(self.features, (1, 1))

    def shift(self, embedding: Any) -> Any:
        """Return the shift of each feature from a time embedding [..., width]."""
        return self.project(embedding)

    def __call__(self, x: Any, shift: Any) -> Any:
        """Compute the block for x [batch, height, width, inputs] and shift [batch or 1, features]."""
        inside = self.conv_in(self.activation(self.norm_in(x))) + shift[:, None, None, :]
        inside = self.conv_out(self.activation(self.norm_out(inside)))
        return inside + (self.skip(x) if self.inputs != self.features else x)


class SelfAttention(nn.Module):
    """Attention of every place of a picture to all places, with one head."""

    features: int
    groups: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        rows = nn.GroupNorm(num_groups=self.groups)(x).reshape(x.shape[0], -1, self.features)
        query, key, value = jnp.split(nn.Dense(3 * self.features)(rows), 3, axis=-1)
        scores = query @ jnp.swapaxes(key, -1, -2) / math.sqrt(self.features)
        mixed = jax.nn.softmax(scores, axis=-1) @ value
        return x + nn.Dense(self.features)(mixed).reshape(x.shape)


class UNet(nn.Module):
    """Predict the noise in pictures [batch, height, width, channels]. The result has the same shape.

    channels: of a picture.
    base: features of the first level. A level's features are `base` times its entry of `multiples`. Each
        further level has half the height and width.
    attention: the levels with self-attention. The middle always has it.
    groups: of every normalisation. They divide all numbers of features.
    classes: how many classes a label may have; 0 for a model without labels. There is one label more, for
        "any class", which classifier-free guidance needs.
    transposed: enlarge by a transposed convolution, as CipherDM does, in place of repeated pixels and a
        convolution.
    """

    channels: int = 1
    base: int = 32
    multiples: tuple[int, ...] = (1, 2)
    attention: tuple[int, ...] = (1,)
    groups: int = 8
    classes: int = 0
    activation: Callable[[Any], Any] = nn.silu
    transposed: bool = False

    def setup(self) -> None:
        widths = [self.base * each for each in self.multiples]
        deepest = len(widths) - 1
        self.time_in = nn.Dense(_TIME_WIDTH * self.base)
        self.time_out = nn.Dense(_TIME_WIDTH * self.base)
        if self.classes:
            self.label = nn.Embed(self.classes + 1, _TIME_WIDTH * self.base)
        self.first = nn.Conv(self.base, (3, 3))
        before = [self.base, *widths[:-1]]
        self.down = [self._block(a, b) for a, b in zip(before, widths, strict=True)]
        self.down_attention = [self._attend(level) for level in range(len(widths))]
        self.smaller = [nn.Conv(each, (3, 3), strides=(2, 2)) for each in widths[:-1]]
        self.middle = [self._block(widths[-1], widths[-1]) for _ in range(2)]
        self.middle_attention = SelfAttention(widths[-1], self.groups)
        skips = [self.base]
        for level, width in enumerate(widths):
            skips += [width] if level == deepest else [width, width]
        up, up_attention, features = [], [], widths[-1]
        for level in range(deepest, -1, -1):
            for _ in range(2):
                up.append(self._block(features + skips.pop(), widths[level]))
                up_attention.append(self._attend(level))
                features = widths[level]
        self.up, self.up_attention = up, up_attention
        enlarge = nn.ConvTranspose if self.transposed else nn.Conv
        strides = (2, 2) if self.transposed else (1, 1)
        self.larger = [enlarge(widths[level], (3, 3), strides=strides) for level in range(deepest, 0, -1)]
        self.norm = nn.GroupNorm(num_groups=self.groups)
        self.last = nn.Conv(self.channels, (3, 3))

    @property
    def denoiser(self) -> Denoiser:
        """The model as a sampler takes it, with the weights as its argument."""

        def conditions(params: Any, times: Any) -> Any:
            return self.apply({"params": params}, times, method=UNet.conditions)

        def predict(params: Any, x: Any, condition: Any, labels: Any) -> Any:
            return self.apply({"params": params}, x, condition, labels)

        return Denoiser(conditions, predict, self.classes + 1 if self.classes else 0)

    def _block(self, inputs: int, features: int) -> ResidualBlock:
        return ResidualBlock(inputs, features, self.groups, self.activation)

    def _attend(self, level: int) -> SelfAttention | None:
        if level not in self.attention:
            return None
        return SelfAttention(self.base * self.multiples[level], self.groups)

    def conditions(self, times: Any) -> Any:
        """Return the shifts of all blocks at timesteps [steps], as [steps, labels, features of all blocks].

        There is one label without classes, else one more than there are classes.
        """
        embedding = self.time_out(self.activation(self.time_in(sinusoids(times, self.base))))[:, None]
        if self.classes:
            embedding = embedding + self.label.embedding
        embedding = self.activation(embedding)
        blocks = (*self.down, *self.middle, *self.up)
        return jnp.concatenate([each.shift(embedding) for each in blocks], axis=-1)

    def __call__(self, x: Any, condition: Any, labels: Any = None) -> Any:
        """Predict the noise in x [batch, height, width, channels].

        condition: `conditions` of one timestep, [labels, features of all blocks].
        labels: one-hot [batch, classes + 1]. They are left out for a model without classes.
        """
        blocks = (*self.down, *self.middle, *self.up)
        ends = [sum(each.features for each in blocks[: place + 1]) for place in range(len(blocks) - 1)]
        shifts = iter(jnp.split(labels @ condition if self.classes else condition, ends, axis=-1))
        x = self.first(x)
        skips = [x]
        for level, block in enumerate(self.down):
            x = self._attended(self.down_attention[level], block(x, next(shifts)))
            skips.append(x)
            if level < len(self.smaller):
                x = self.smaller[level](x)
                skips.append(x)
        x = self.middle_attention(self.middle[0](x, next(shifts)))
        x = self.middle[1](x, next(shifts))
        for place, block in enumerate(self.up):
            x = block(jnp.concatenate([x, skips.pop()], axis=-1), next(shifts))
            x = self._attended(self.up_attention[place], x)
            if place % 2 and place // 2 < len(self.larger):
                x = self.larger[place // 2](x if self.transposed else _doubled(x))
        return self.last(self.activation(self.norm(x)))

    def _attended(self, attention: SelfAttention | None, x: Any) -> Any:
        return x if attention is None else attention(x)


def _doubled(x: Any) -> Any:
    """Repeat every pixel of x [batch, height, width, features] twice in both directions."""
    batch, height, width, features = x.shape
    return jax.image.resize(x, (batch, 2 * height, 2 * width, features), "nearest")


def initial(unet: UNet, size: int, seed: int = 0) -> Any:
    """Return random weights of a UNet for pictures of `size` x `size`."""

    def run(module: UNet, x: Any, times: Any, labels: Any) -> Any:
        return module(x, module.conditions(times)[0], labels)

    x = jnp.zeros((1, size, size, unet.channels))
    labels = jnp.zeros((1, unet.classes + 1)) if unet.classes else None
    start = jax.jit(lambda key: unet.init(key, x, jnp.zeros((1,)), labels, method=run))
    return jax.device_get(start(jax.random.PRNGKey(seed))["params"])
