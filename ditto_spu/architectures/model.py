"""Turn a Flax module into the functions that `secure` and `generate` take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flax import linen as nn

from ditto_spu.generation.decoder import Decoder

# Decoders start from small weights; checkpoints replace them.
SMALL = nn.initializers.normal(0.02)


@dataclass(frozen=True)
class Model:
    """A model without its parameters.

    fn: `fn(params, ids, mask)`. output: what it returns, as `models.loaded.LoadedModel` says.
    outline: returns the parameters as shapes, and `initial(key)` returns random ones.
    decoder: the model for `generate`, if it generates.
    """

    config: Any
    fn: Callable[..., Any]
    output: str
    initial: Callable[[Any], Any]
    decoder: Decoder | None = None

    def outline(self) -> Any:
        """Return the parameters as shapes."""
        import jax

        return jax.eval_shape(self.initial, jax.random.PRNGKey(0))


def language_model(config: Any, module: Any) -> Model:
    """Return the model of a causal module `module(tokens, start, mask, cache, rows) -> (logits, cache)`.

    tokens: ids [batch, length] or one-hot rows [batch, length, vocabulary]. They stand at the positions
        `start`, `start + 1`, ... where start is one number, or one for each text [batch].
    mask: [batch, length], 0 at padding, or None.
    cache: a pair of keys and values [batch, places, heads, width] for each layer, or None.
    rows: a function that takes from states [batch, length, width] those whose logits are wanted. None is all.
    """
    import jax
    import jax.numpy as jnp

    def predict(params: Any, ids: Any, mask: Any) -> Any:
        return module.apply({"params": params}, ids, 0, mask)[0]

    def chosen(rows: Any) -> Callable[[Any], Any]:
        if rows is None:
            return lambda states: states[:, -1]
        return lambda states: jnp.take_along_axis(states, rows[..., None], axis=1)

    def prefill(params: Any, one_hot: Any, rows: Any = None, *, length: int) -> tuple[Any, Any]:
        logits, cache = module.apply({"params": params}, one_hot, 0, rows=chosen(rows))
        # The prompt attends to itself alone. Room for later tokens is added afterwards.
        return logits, jax.tree_util.tree_map(lambda each: roomy(each, length), cache)

    def follow(params: Any, prefix: Any, one_hot: Any, rows: Any = None, *, length: int) -> tuple[Any, Any]:
        batch, prompt, _ = one_hot.shape
        start = jax.tree_util.tree_leaves(prefix)[0].shape[1]

        def copied(each: Any) -> Any:
            return roomy(jnp.broadcast_to(each, (batch, *each.shape[1:])), start + prompt)

        cache = jax.tree_util.tree_map(copied, prefix)
        logits, cache = module.apply({"params": params}, one_hot, start, cache=cache, rows=chosen(rows))
        return logits, jax.tree_util.tree_map(lambda each: roomy(each, length), cache)

    def roomy(each: Any, length: int) -> Any:
        """Return a part of a cache with places for `length` tokens."""
        return jnp.pad(each, ((0, 0), (0, length - each.shape[1]), (0, 0), (0, 0)))

    def step(params: Any, cache: Any, one_hot: Any, position: Any, rows: Any = None) -> tuple[Any, Any]:
        return module.apply({"params": params}, one_hot, position, cache=cache, rows=chosen(rows))

    def initial(key: Any) -> Any:
        return module.init(key, jnp.zeros((1, 1), jnp.int32), 0)["params"]

    decoder = Decoder(prefill, step, config.vocabulary, config.positions, follow, ragged=True)
    return Model(config, predict, "logits", initial, decoder)
