"""A transformer of one layer and width 8 over four tokens, and examples that it can learn."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from ditto_spu.distill import Examples

CLASSES = 3
QUAD = {
    "name": "tiny-quad",
    "default": "fxp32.12",
    "rule": [
        {"op": "gelu", "approx": "quad", "operand": "fxp32.9"},
        {"op": "softmax", "approx": "2quad", "operand": "fxp32.8", "format": "fxp32.12"},
        {"op": "weight", "format": "fxp32.12"},
        {"op": "matmul", "range": 30},
    ],
}
_NORM = linen.LayerNorm()


def classify(params, x):
    """Return logits [batch, classes] of x [batch, 4, 8]."""
    with jax.named_scope("layer/attention"):
        query, key, value = (x @ params[name] for name in ("query", "key", "value"))
        scores = jnp.einsum("bqd,bkd->bqk", query, key)
        x = x + jax.nn.softmax(scores / 8**0.5, axis=-1) @ value
    with jax.named_scope("layer/norm"):
        x = _NORM.apply({"params": params["norm"]}, x)
    with jax.named_scope("layer/dense"):
        x = x + jax.nn.gelu(x @ params["up"], approximate=False) @ params["down"]
    return jnp.mean(x, axis=1) @ params["head"]


def parameters():
    """Return small random weights."""
    draw = np.random.default_rng(5)
    sizes = dict.fromkeys(("query", "key", "value"), (8, 8)) | {
        "up": (8, 16),
        "down": (16, 8),
        "head": (8, CLASSES),
    }
    made = {name: (draw.standard_normal(size) / 3).astype(np.float32) for name, size in sizes.items()}
    return made | {"norm": {"scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}}


def examples(count, seed):
    """Return examples whose class is the position of the largest of three sums."""
    x = np.random.default_rng(seed).standard_normal((count, 4, 8)).astype(np.float32)
    return Examples((x,), x[:, :, :CLASSES].sum(1).argmax(-1).astype(np.int32))
