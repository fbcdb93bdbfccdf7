"""Small random models of many Hugging Face families under the default, right or refused with the reason.

The sizes are odd on purpose: five heads, hidden 20, seven tokens, feed-forward layers of 37.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

import ditto_spu as ditto

LIMIT = 0.03  # of the largest output
WORDS = 99
BERT = {
    "hidden_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 37,
    "vocab_size": WORDS,
    "max_position_embeddings": 40,
}
BART = {
    "d_model": 20,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 5,
    "decoder_attention_heads": 5,
    "encoder_ffn_dim": 37,
    "decoder_ffn_dim": 37,
    "vocab_size": WORDS,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
T5 = {
    "d_model": 20,
    "d_kv": 4,
    "d_ff": 37,
    "num_layers": 2,
    "num_heads": 5,
    "vocab_size": WORDS,
    "relative_attention_num_buckets": 8,
    "decoder_start_token_id": 0,
}
VIT = {**BERT, "image_size": 12, "patch_size": 4}
BEIT = {**VIT, "use_relative_position_bias": True, "use_absolute_position_embeddings": False}
GPT2 = {"n_embd": 20, "n_layer": 2, "n_head": 5, "n_positions": 40, "vocab_size": WORDS, "bos_token_id": 1}
GROUPED = {**BERT, "num_key_value_heads": 1}
CLIP_PART = {key: BERT[key] for key in list(BERT)[:4]}
CLIP = {
    "text_config": {**CLIP_PART, "vocab_size": WORDS, "max_position_embeddings": 20, "eos_token_id": 2},
    "vision_config": {**CLIP_PART, "image_size": 12, "patch_size": 4},
    "projection_dim": 16,
}
WHISPER = {**BART, "num_mel_bins": 8, "max_source_positions": 11, "pad_token_id": 0}
Inputs = Mapping[str, NDArray[Any]]


def text(rng: np.random.Generator, length: int = 7) -> Inputs:
    mask = np.ones((2, length), np.int32)
    mask[1, -2:] = 0
    return {"input_ids": rng.integers(3, WORDS, (2, length)).astype(np.int32), "attention_mask": mask}


def pair(rng: np.random.Generator, length: int = 7) -> Inputs:
    return {**text(rng, length), "decoder_input_ids": rng.integers(3, WORDS, (2, 5)).astype(np.int32)}


def whole_pair(rng: np.random.Generator) -> Inputs:
    """LongT5 masks every score of a padded place, whose output floats make of rounding errors."""
    inputs = pair(rng, 13)
    return {**inputs, "attention_mask": np.ones_like(inputs["attention_mask"])}


def image(rng: np.random.Generator, size: int = 12) -> Inputs:
    return {"pixel_values": rng.normal(size=(1, 3, size, size)).astype(np.float32)}


def both(rng: np.random.Generator) -> Inputs:
    return {**text(rng), "pixel_values": rng.normal(size=(2, 3, 12, 12)).astype(np.float32)}


def sound(rng: np.random.Generator) -> Inputs:
    ids = rng.integers(3, WORDS, (1, 5)).astype(np.int32)
    return {"input_features": rng.normal(size=(1, 8, 22)).astype(np.float32), "decoder_input_ids": ids}


@dataclass(frozen=True)
class Family:
    """A class of transformers, its configuration, example inputs, and options of the class."""

    model: str
    config: str
    sizes: Mapping[str, Any]
    inputs: Callable[[np.random.Generator], Inputs] = text
    options: Mapping[str, Any] | None = None


FAMILIES = {
    "bert": Family("FlaxBertForMaskedLM", "BertConfig", BERT),
    "bert, relu": Family("FlaxBertModel", "BertConfig", {**BERT, "hidden_act": "relu"}),
    "albert": Family("FlaxAlbertForSequenceClassification", "AlbertConfig", {**BERT, "embedding_size": 12}),
    "electra": Family("FlaxElectraForPreTraining", "ElectraConfig", {**BERT, "embedding_size": 12}),
    "big_bird, sparse": Family(
        "FlaxBigBirdModel",
        "BigBirdConfig",
        {**BERT, "block_size": 3, "num_random_blocks": 1, "max_position_embeddings": 64},
        lambda rng: text(rng, 33),
        {"input_shape": (1, 33)},
    ),
    "gpt2": Family("FlaxGPT2LMHeadModel", "GPT2Config", GPT2),
    "gptj": Family("FlaxGPTJForCausalLM", "GPTJConfig", {**GPT2, "rotary_dim": 4}),
    "bart": Family("FlaxBartForConditionalGeneration", "BartConfig", BART, pair),
    "t5": Family("FlaxT5ForConditionalGeneration", "T5Config", T5, pair),
    "longt5": Family(
        "FlaxLongT5ForConditionalGeneration",
        "LongT5Config",
        {**T5, "local_radius": 3},
        whole_pair,
        {"input_shape": (1, 13)},
    ),
    "mistral": Family("FlaxMistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 4}),
    "gemma": Family("FlaxGemmaForCausalLM", "GemmaConfig", {**GROUPED, "head_dim": 4}),
    "vit": Family("FlaxViTForImageClassification", "ViTConfig", VIT, image),
    "beit": Family("FlaxBeitModel", "BeitConfig", BEIT, image),
    "dinov2": Family("FlaxDinov2Model", "Dinov2Config", VIT, image),
    "clip": Family("FlaxCLIPModel", "CLIPConfig", CLIP, both),
    "resnet": Family(
        "FlaxResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 10, "hidden_sizes": [10, 20], "depths": [1, 1]},
        lambda rng: image(rng, 33),
        {"input_shape": (1, 33, 33, 3)},
    ),
    "whisper": Family(
        "FlaxWhisperForConditionalGeneration", "WhisperConfig", WHISPER, sound, {"input_shape": (1, 8, 22)}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 5])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_foreign_model_is_right(name: str, scale: int) -> None:
    family, rng = FAMILIES[name], np.random.default_rng(1)
    config = getattr(transformers, family.config)(**family.sizes)
    model = getattr(transformers, family.model)(config, seed=0, **(family.options or {}))
    params = jax.tree_util.tree_map(lambda each: np.asarray(each, np.float32) * scale, dict(model.params))

    def call(params: Any, inputs: Any, mask: Any) -> Any:
        masks = {} if mask is None else {"attention_mask": mask}
        return model(**inputs, **masks, params=params).to_tuple()

    inputs = dict(family.inputs(rng))
    mask = inputs.pop("attention_mask", None)
    outputs = ditto.secure(call, public=("mask",))(params, inputs, mask)
    for mine, plain in zip(
        *map(jax.tree_util.tree_leaves, (outputs, call(params, inputs, mask))), strict=True
    ):
        assert np.max(np.abs(mine - plain)) <= LIMIT * np.max(np.abs(plain))
