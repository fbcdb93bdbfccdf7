"""Build Hugging Face's Flax BERT with random weights: encoders of hidden states, and a tiny whole model."""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_spu.models.named import Program


def base_layer() -> Program:
    """Build the encoder of BERT-base, cut to one layer."""
    return encoder(layers=1)


def base() -> Program:
    """Build the encoder of BERT-base."""
    return encoder(layers=12)


def large_layer() -> Program:
    """Build the encoder of BERT-large, cut to one layer."""
    return encoder(layers=1, hidden_size=1024, num_attention_heads=16, intermediate_size=4096)


def encoder(layers: int, sequence: int = 128, **sizes: int) -> Program:
    """Build FlaxBertEncoder as `fn(params, hidden)`, with hidden [1, sequence, hidden_size].

    `sizes` are options of BertConfig. Its defaults apply to the rest, such as a hidden_size of 768.
    """
    import jax
    from transformers import BertConfig
    from transformers.models.bert.modeling_flax_bert import FlaxBertEncoder

    config = BertConfig(num_hidden_layers=layers, **sizes)
    module = FlaxBertEncoder(config)
    # The distribution is normal like that of hidden states inside BERT, where each LayerNorm leaves unit
    # variance.
    hidden = np.random.default_rng(0).standard_normal((1, sequence, config.hidden_size)).astype(np.float32)

    def encode(params: Any, hidden: Any) -> Any:
        return module.apply({"params": params}, hidden, None, None, return_dict=False)[0]

    def initialise() -> Any:
        return module.init(jax.random.PRNGKey(0), hidden, None, None, return_dict=False)["params"]

    return Program(encode, (jax.device_get(jax.jit(initialise)()), hidden), weights=1)


def tiny(sequence: int = 8) -> Program:
    """Build a whole FlaxBert that is small enough for tests.

    It is `fn(params, ids, mask)`, with ids and mask [2, sequence]. The mask is public. The last three tokens
    of the second sentence are padding.
    """
    import jax
    import jax.numpy as jnp
    from transformers import BertConfig
    from transformers.models.bert.modeling_flax_bert import FlaxBertModule

    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=sequence,
    )
    module = FlaxBertModule(config, add_pooling_layer=False)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (2, sequence)).astype(np.int32)
    mask = np.array([[1] * sequence, [1] * (sequence - 3) + [0] * 3], dtype=np.int32)

    def encode(params: Any, ids: Any, mask: Any) -> Any:
        return bert_hidden(module, params, ids, mask)

    def initialise() -> Any:
        zeros = jnp.zeros_like(ids)
        return module.init(jax.random.PRNGKey(0), ids, mask, zeros, zeros, None, return_dict=False)["params"]

    return Program(encode, (jax.device_get(jax.jit(initialise)()), ids, mask), public=("mask",), weights=1)


def bert_hidden(module: Any, params: Any, ids: Any, mask: Any) -> Any:
    """Return the last hidden states [batch, sequence, width] of a FlaxBertModule.

    There is one segment, and positions are counted from 0.
    """
    import jax.numpy as jnp

    segments = jnp.zeros_like(ids)
    positions = jnp.broadcast_to(jnp.arange(ids.shape[-1]), ids.shape)
    return module.apply({"params": params}, ids, mask, segments, positions, None, return_dict=False)[0]
