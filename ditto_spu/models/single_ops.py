"""Build the hot ops of BERT-base, each alone, on inputs of the magnitude that they have in the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.models.named import Program


def _normal(*shape: int, scale: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def gelu() -> Program:
    """Build `fn(x)`: exact GeLU, through erf, of x [128, 3072]."""
    import jax

    def gelu(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=False)

    return Program(gelu, (_normal(128, 3072, scale=2.0),))


def softmax() -> Program:
    """Build `fn(x)`: softmax of the attention scores of twelve heads, x [12, 128, 128]."""
    import jax

    def softmax(x: Any) -> Any:
        return jax.nn.softmax(x, axis=-1)

    return Program(softmax, (_normal(12, 128, 128, scale=2.0),))


def layernorm() -> Program:
    """Build `fn(params, x)`: flax.linen.LayerNorm with BERT's epsilon, of x [128, 768]."""
    from flax import linen

    module = linen.LayerNorm(epsilon=1e-12)

    def layernorm(params: Any, x: Any) -> Any:
        return module.apply({"params": params}, x)

    params = {"scale": 1 + _normal(768, scale=0.1, seed=1), "bias": _normal(768, scale=0.1, seed=2)}
    return Program(layernorm, (params, _normal(128, 768)), weights=1)


def matmul() -> Program:
    """Build `fn(x, w)`: the first product of the feed-forward part, [128, 768] times [768, 3072].

    w is distributed as Hugging Face initialises it.
    """

    def matmul(x: Any, w: Any) -> Any:
        return x @ w

    return Program(matmul, (_normal(128, 768), _normal(768, 3072, scale=0.02, seed=1)))
