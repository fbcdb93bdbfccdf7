"""Build models without Hugging Face: a decoder block of flax.linen and an encoder block of flax.nnx."""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_spu.models.named import Program

WIDTH, HEADS, WORDS, SEQUENCE = 32, 4, 50, 8


def _ids() -> Any:
    return np.random.default_rng(0).integers(0, WORDS, (2, SEQUENCE)).astype(np.int32)


def linen() -> Program:
    """Build `fn(params, ids)`: an embedding, a block with causal attention, and logits."""
    import flax.linen as nn
    import jax

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, ids: Any) -> Any:
            x = nn.Embed(WORDS, WIDTH)(ids) + self.param(
                "positions", nn.initializers.normal(), (SEQUENCE, WIDTH)
            )
            normed = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(HEADS)(normed, mask=nn.make_causal_mask(ids))
            normed = nn.RMSNorm()(x)
            x = x + nn.Dense(WIDTH)(nn.silu(nn.Dense(2 * WIDTH)(normed)))
            return nn.Dense(WORDS)(nn.Dropout(0.1, deterministic=True)(x))

    module, ids = Decoder(), _ids()

    def decode(params: Any, ids: Any) -> Any:
        return module.apply({"params": params}, ids)

    params = jax.jit(module.init)(jax.random.PRNGKey(0), ids)["params"]
    return Program(decode, (jax.device_get(params), ids), weights=1)


def nnx() -> Program:
    """Build `fn(params, ids)`, where params is the state that `nnx.split` gives. Attention is not causal."""
    import jax
    from flax import nnx as library

    class Encoder(library.Module):
        def __init__(self, rngs: Any) -> None:
            self.embed = library.Embed(WORDS, WIDTH, rngs=rngs)
            self.norms = [library.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)]
            self.attention = library.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            self.wide = library.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
            self.narrow = library.Linear(2 * WIDTH, WIDTH, rngs=rngs)

        def __call__(self, ids: Any) -> Any:
            x = self.embed(ids)
            x = x + self.attention(self.norms[0](x))
            return x + self.narrow(jax.nn.gelu(self.wide(self.norms[1](x))))

    graph, params, rest = library.split(Encoder(library.Rngs(0)), library.Param, ...)

    def encode(params: Any, ids: Any) -> Any:
        return library.merge(graph, params, rest)(ids)

    plain = jax.tree_util.tree_map(np.asarray, params)
    return Program(encode, (plain, _ids()), weights=1)
