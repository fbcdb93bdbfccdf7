"""BERT, RoBERTa and DistilBERT: hidden states, sequence classification, question answering, embeddings."""

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
# Configuration class, prefix of the model classes, and what differs from its defaults, at both sizes.
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
        # Positions count the words that are not padding. Taken from the mask they are public if it is.
        options["position_ids"] = jnp.cumsum(mask, axis=-1) * mask + model.config.pad_token_id
    return model(ids, attention_mask=mask, params=params, **options)


def hidden(model: Any) -> Callable[..., Any]:
    """The last hidden states [batch, sequence, width]."""

    def encode(params: Any, ids: Any, mask: Any) -> Any:
        return _call(model, params, ids, mask).last_hidden_state

    return encode


def classes(model: Any) -> Callable[..., Any]:
    """The logits of the classes [batch, classes]."""

    def classify(params: Any, ids: Any, mask: Any) -> Any:
        return _call(model, params, ids, mask).logits

    return classify


def spans(model: Any) -> Callable[..., Any]:
    """Logits of where an answer starts and ends, two of [batch, sequence]."""

    def answer(params: Any, ids: Any, mask: Any) -> Any:
        found = _call(model, params, ids, mask)
        return found.start_logits, found.end_logits

    return answer


def pooled(model: Any) -> Callable[..., Any]:
    """The mean of the words' hidden states, scaled to length 1 [batch, width]."""

    def embed(params: Any, ids: Any, mask: Any) -> Any:
        import jax
        import jax.numpy as jnp

        states = _call(model, params, ids, mask).last_hidden_state
        words = mask[..., None].astype(states.dtype)
        mean = jnp.sum(states * words, axis=-2) / jnp.sum(words, axis=-2)
        return mean * jax.lax.rsqrt(jnp.sum(mean * mean, axis=-1, keepdims=True))

    return embed


# Suffix of the name, of the model class, what it is, and what is computed.
TASKS: dict[str, tuple[str, str, Callable[[Any], Callable[..., Any]]]] = {
    "": ("Model", "hidden states", hidden),
    "-classifier": ("ForSequenceClassification", "sequence classification", classes),
    "-qa": ("ForQuestionAnswering", "question answering", spans),
    "-embedding": ("Model", "mean of the hidden states, scaled to length 1", pooled),
}


def encoder(family: str, task: str, tiny: bool) -> HuggingFace:
    """One of FAMILIES for one of TASKS; the tiny one takes two sentences, of which one is padded."""
    config_class, prefix, sizes, small = FAMILIES[family]
    suffix, _, function = TASKS[task]
    inputs = tokens(8, padded=3, rows=2) if tiny else tokens(SEQUENCE)
    return HuggingFace(
        prefix + suffix, config_class, small if tiny else sizes, inputs, function, public=("mask",)
    )
