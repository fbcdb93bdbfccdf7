"""Build BERT, RoBERTa and DistilBERT, each for four tasks.

The tasks are hidden states, sequence classification, question answering and embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ditto_spu.models.hugging_face import HuggingFace, tokens

SEQUENCE = 128
_TINY = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 18,
}
# Each family has a configuration class, a prefix of its model classes, and options that differ from the
# defaults: first at full size, then at tiny size.
FAMILIES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "bert": ("BertConfig", "FlaxBert", {}, _TINY),
    "roberta": (
        "RobertaConfig",
        "FlaxRoberta",
        {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
        _TINY | {"type_vocab_size": 1},
    ),
    "distilbert": (
        "DistilBertConfig",
        "FlaxDistilBert",
        {},
        {
            "vocab_size": 50,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
            "max_position_embeddings": 18,
        },
    ),
}


def _call(model: Any, params: Any, ids: Any, mask: Any) -> Any:
    import jax.numpy as jnp

    options = {}
    if model.config.model_type == "roberta":
        # Positions count the words that are not padding. They are computed from the mask, so they are public
        # if it is.
        options["position_ids"] = jnp.cumsum(mask, axis=-1) * mask + model.config.pad_token_id
    return model(ids, attention_mask=mask, params=params, **options)


def hidden(model: Any) -> Callable[..., Any]:
    """Return `fn(params, ids, mask)` for the last hidden states [batch, sequence, width]."""

    def encode(params: Any, ids: Any, mask: Any) -> Any:
        return _call(model, params, ids, mask).last_hidden_state

    return encode


def classes(model: Any) -> Callable[..., Any]:
    """Return `fn(params, ids, mask)` for the logits of the classes [batch, classes]."""

    def classify(params: Any, ids: Any, mask: Any) -> Any:
        return _call(model, params, ids, mask).logits

    return classify


def spans(model: Any) -> Callable[..., Any]:
    """Return `fn(params, ids, mask)` for the logits of an answer's start and end, each [batch, sequence]."""

    def answer(params: Any, ids: Any, mask: Any) -> Any:
        found = _call(model, params, ids, mask)
        return found.start_logits, found.end_logits

    return answer


def pooled(model: Any) -> Callable[..., Any]:
    """Return `fn(params, ids, mask)` for sentence embeddings [batch, width].

    An embedding is the mean of the words' hidden states, scaled to length 1.
    """

    def embed(params: Any, ids: Any, mask: Any) -> Any:
        import jax
        import jax.numpy as jnp

        states = _call(model, params, ids, mask).last_hidden_state
        words = mask[..., None].astype(states.dtype)
        mean = jnp.sum(states * words, axis=-2) / jnp.sum(words, axis=-2)
        return mean * jax.lax.rsqrt(jnp.sum(mean * mean, axis=-1, keepdims=True))

    return embed


# The key is the suffix of the model's name. Its entry has the suffix of the model class, a description, and
# the function that builds the computation.
TASKS: dict[str, tuple[str, str, Callable[[Any], Callable[..., Any]]]] = {
    "": ("Model", "hidden states", hidden),
    "-classifier": ("ForSequenceClassification", "sequence classification", classes),
    "-qa": ("ForQuestionAnswering", "question answering", spans),
    "-embedding": ("Model", "mean of the hidden states, scaled to length 1", pooled),
}


def encoder(family: str, task: str, tiny: bool) -> HuggingFace:
    """Build one of FAMILIES for one of TASKS.

    The tiny model takes two sentences of 8 tokens, of which one is padded. The full one takes one sentence of
    128 tokens.
    """
    config_class, prefix, sizes, small = FAMILIES[family]
    suffix, _, function = TASKS[task]
    inputs = tokens(8, padded=3, rows=2) if tiny else tokens(SEQUENCE)
    return HuggingFace(
        prefix + suffix, config_class, small if tiny else sizes, inputs, function, public=("mask",)
    )
