"""Build GPT-2 as a decoder.

It takes the prompt in one call, and then one token per call over a key/value cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ditto_spu.generation.decoder import Decoder, one_hot
from ditto_spu.models import own
from ditto_spu.models.loaded import load as load_checkpoint
from ditto_spu.models.named import Program, Text

PROMPT = 32  # tokens
TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 50, "n_positions": 16}
FAMILY = {"model_type": "gpt2"}


def load(place: str | Path) -> tuple[Decoder, Any]:
    """Return (decoder, parameters) of a checkpoint on disk, in any form that `ditto.load` reads.

    Raises InputError as `ditto.load` does, and for a checkpoint of another family.
    """
    model = load_checkpoint(place, of="gpt2")
    assert model.decoder is not None
    return model.decoder, model.params


def initialised(seed: int = 0, **sizes: int) -> tuple[Decoder, Any]:
    """Return (decoder, parameters) with random weights, distributed as in GPT-2 before its training.

    `sizes` are settings of config.json, such as n_layer.
    """
    made = own.OwnModel(FAMILY | sizes, PROMPT).text(seed=seed)
    return made.decoder, made.params


def base() -> Program:
    """Build GPT-2 base as `fn(params, one_hot)`, which returns the logits of the token after a prompt."""
    return next_token(text())


def stored(place: Path) -> Program:
    """Build the same function for a checkpoint on disk, with random prompts."""
    decoder, params = load(place)
    return next_token(Text(decoder, params, own.random_tokens(decoder.vocabulary, 1, PROMPT)))


def text(weights: Path | None = None) -> Text:
    """Return GPT-2 base and a random prompt, or a checkpoint and a question."""
    return own.OwnModel(FAMILY, PROMPT, prompt=PROMPT).text(weights)


def tiny() -> Program:
    """Build the same function with two layers of width 32 and 50 tokens."""
    return next_token(tiny_text())


def tiny_text(weights: Path | None = None) -> Text:
    """Return the tiny decoder and a random prompt, or a checkpoint and a question."""
    return own.OwnModel(FAMILY | TINY, PROMPT).text(weights)


def next_token(text: Text) -> Program:
    """Build the function that returns the logits after the prompt, LM head included, without a cache.

    Other random prompts are its examples.
    """
    decoder, params, length = text.decoder, text.params, text.prompt.shape[1]

    def logits(params: Any, one_hot: Any) -> Any:
        return decoder.prefill(params, one_hot, length=length)[0]

    others = (own.random_tokens(decoder.vocabulary, 1, length, seed) for seed in range(1, 4))
    calls = [(params, one_hot(each, decoder.vocabulary)) for each in (text.prompt, *others)]
    return Program(logits, calls[0], weights=1, examples=tuple(calls[1:]))
