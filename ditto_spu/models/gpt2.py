"""Build GPT-2 from Hugging Face's Flax classes as a decoder.

It takes the prompt in one call, and then one token per call over a key/value cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder, one_hot
from ditto_spu.models.named import Program, Text

PROMPT = 32  # tokens
TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 50, "n_positions": 16}


def decoder(model: Any) -> Decoder:
    """Return the decoder of a transformers.FlaxGPT2LMHeadModel or of a GPT2Config.

    Its parameters are the model's own (`model.params`). The output table is the input table if they are tied.
    Raises InputError for a model with cross-attention.
    """
    import jax
    import jax.numpy as jnp
    from transformers.models.gpt2.modeling_flax_gpt2 import FlaxGPT2LMHeadModule

    config = getattr(model, "config", model)
    if config.add_cross_attention:
        raise InputError(
            "a GPT-2 with cross-attention needs an encoder's states: only plain decoders run here"
        )
    module = FlaxGPT2LMHeadModule(config)

    def logits(module: Any, hot: Any, positions: Any, room: int) -> Any:
        """Return logits [batch, vocabulary] at the last position.

        `hot` holds one-hot tokens [batch, length, vocabulary].
        """
        parts = module.transformer
        with jax.named_scope("wte"):
            hidden = hot @ parts.wte.embedding
        hidden = hidden + parts.wpe(positions)
        whole = np.ones((hot.shape[0], room), np.int32)  # the module adds the causal mask itself
        hidden = parts.h(hidden, whole, deterministic=True, return_dict=False)[0]
        hidden = parts.ln_f(hidden[:, -1:])[:, 0]
        if not config.tie_word_embeddings:
            return module.lm_head(hidden)
        with jax.named_scope("wte/attend"):
            return hidden @ parts.wte.embedding.T

    def run(params: Any, layers: Any, hot: Any, position: Any) -> tuple[Any, Any]:
        states = {
            name: {"attn": {"cached_key": key, "cached_value": value, "cache_index": jnp.asarray(position)}}
            for name, (key, value) in layers.items()
        }
        positions = position + jnp.arange(hot.shape[1])[None]
        variables = {"params": params, "cache": {"transformer": {"h": states}}}
        room = layers["0"][0].shape[1]
        result, changed = module.apply(variables, hot, positions, room, method=logits, mutable=["cache"])
        after = changed["cache"]["transformer"]["h"]
        return result, {
            name: (after[name]["attn"]["cached_key"], after[name]["attn"]["cached_value"]) for name in layers
        }

    def prefill(params: Any, one_hot: Any, *, length: int) -> tuple[Any, Any]:
        batch, prompt, _ = one_hot.shape
        shape = (batch, prompt, config.n_head, config.n_embd // config.n_head)
        empty = {str(layer): (jnp.zeros(shape), jnp.zeros(shape)) for layer in range(config.n_layer)}
        result, cache = run(params, empty, one_hot, 0)
        # The prompt attends to itself alone. Room for later tokens is added afterwards.
        room = ((0, 0), (0, length - prompt), (0, 0), (0, 0))
        return result, jax.tree_util.tree_map(lambda each: jnp.pad(each, room), cache)

    def step(params: Any, cache: Any, one_hot: Any, position: Any) -> tuple[Any, Any]:
        return run(params, cache, one_hot, position)

    return Decoder(prefill, step, config.vocab_size, config.n_positions)


def load(folder: str | Path) -> tuple[Decoder, Any]:
    """Return (decoder, parameters) of a checkpoint on disk, as `save_pretrained` writes it.

    Raises InputError if the folder has no config.json.
    """
    import jax
    from transformers import FlaxGPT2LMHeadModel

    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"there is no GPT-2 in '{folder}': it holds no config.json")
    model = FlaxGPT2LMHeadModel.from_pretrained(folder, local_files_only=True)
    return decoder(model), jax.device_get(model.params)


def initialised(seed: int = 0, **sizes: int) -> tuple[Decoder, Any]:
    """Return (decoder, parameters) with random weights from Hugging Face's own initialiser.

    `sizes` are options of GPT2Config.
    """
    import jax
    from transformers import FlaxGPT2LMHeadModel, GPT2Config

    model = FlaxGPT2LMHeadModel(GPT2Config(**sizes), seed=seed)
    return decoder(model), jax.device_get(model.params)


def base() -> Program:
    """Build GPT-2 base as `fn(params, one_hot)`, which returns the logits of the token after a prompt."""
    return next_token(text())


def stored(folder: Path) -> Program:
    """Build the same function for a checkpoint on disk."""
    return next_token(prompted(*load(folder)))


def text() -> Text:
    """Return GPT-2 base and a random prompt."""
    return prompted(*initialised())


def tiny() -> Program:
    """Build the same function with two layers of width 32 and 50 tokens."""
    return next_token(tiny_text())


def tiny_text() -> Text:
    """Return the tiny decoder and a random prompt."""
    return prompted(*initialised(**TINY), length=6)


def prompted(decoder: Decoder, params: Any, length: int = PROMPT) -> Text:
    """Return the decoder with a random prompt of `length` tokens.

    The prompt can be random because random weights know no language either.
    """
    return Text(decoder, params, _tokens(decoder, length, seed=0))


def next_token(text: Text) -> Program:
    """Build the function that returns the logits after the prompt, LM head included, without a cache.

    Other random prompts are its examples.
    """
    decoder, params, length = text.decoder, text.params, text.prompt.shape[1]

    def logits(params: Any, one_hot: Any) -> Any:
        return decoder.prefill(params, one_hot, length=length)[0]

    prompts = (text.prompt, *(_tokens(decoder, length, seed) for seed in range(1, 4)))
    calls = [(params, one_hot(each, decoder.vocabulary)) for each in prompts]
    return Program(logits, calls[0], weights=1, examples=tuple(calls[1:]))


def _tokens(decoder: Decoder, length: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, decoder.vocabulary, (1, length))
