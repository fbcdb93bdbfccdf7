"""Run a Flax model whose weights a server owns, on token ids that a client owns.

Run it with `python examples/flax_model.py`. It takes a few seconds.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import ditto_spu as ditto

WORDS, WIDTH, CLASSES = 100, 32, 3


class Classifier(nn.Module):
    """A transformer block over an embedding, and a head on the mean of the words that the mask admits."""

    @nn.compact
    def __call__(self, ids: Any, mask: Any) -> Any:
        x = nn.LayerNorm()(nn.Embed(WORDS, WIDTH)(ids))
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(4)(x, mask=mask[:, None, None, :] > 0))
        x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(x)))
        mean = jnp.sum(x * mask[..., None], axis=1) / jnp.sum(mask, axis=1, keepdims=True)
        return nn.Dense(CLASSES)(mean)


model = Classifier()


# The signature says whose each argument is. An owner computes in plaintext what needs its own arrays and
# public ones alone: here the client turns its ids into one-hot rows. Everything else is computed on shares.
# The mask is public, so it costs nothing, and it reveals how long the texts are.
@ditto.secure(owner={"params": "server", "ids": "client"}, public=("mask",))
def classify(params: Any, ids: Any, mask: Any) -> Any:
    """Return logits [texts, classes] of token ids [texts, words]."""
    return model.apply({"params": params}, ids, mask)


def main() -> dict[str, Any]:
    ids = np.random.default_rng(0).integers(0, WORDS, (2, 8)).astype(np.int32)
    mask = np.array([[1] * 8, [1] * 5 + [0] * 3], np.int32)  # the second text has five words
    # Random weights stand for trained ones.
    params = jax.jit(model.init)(jax.random.PRNGKey(0), ids, mask)["params"]

    # This summary says what each owner does by itself, and what it then shares. Nothing has run yet.
    ownership = classify.lower(params, ids, mask).ownership()
    print(ownership, end="\n\n")

    result = classify.run(params, ids, mask)
    expected = np.asarray(model.apply({"params": params}, ids, mask))
    for text, (secure, plain) in enumerate(zip(result.outputs, expected, strict=True)):
        print(f"text {text}: class {secure.argmax()} from three parties, {plain.argmax()} in plaintext")
        print(f"  logits {secure.round(3)} from three parties, {plain.round(3)} in plaintext")

    # Paths in the report are those of the Flax modules.
    report = result.report
    for kind, row in report.by_kind().items():
        sent = sum(row.online_bytes + row.offline_bytes) / 3e3
        if sent:
            print(f"  {kind:10s} {sent:6.1f} kB per party, online and offline")
    print(f"largest error {np.abs(result.outputs - expected).max():.4f}, {report.rounds} rounds")
    return {"outputs": result.outputs, "expected": expected, "ownership": ownership, "report": report}


if __name__ == "__main__":
    main()
