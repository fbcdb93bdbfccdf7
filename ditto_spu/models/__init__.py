"""Named models for the command line, the benchmarks and the demo: `MODELS` is the table of all of them."""

from __future__ import annotations

from ditto_spu.errors import InputError, nearest
from ditto_spu.models import bert, gpt2, minilm, single_ops
from ditto_spu.models.named import NamedModel, Program, Text

__all__ = ["MODELS", "NamedModel", "Program", "Text", "named_model"]

_HF = "Hugging Face FlaxBert, random weights (seed 0, its own initialiser)"
_GPT2 = "Hugging Face FlaxGPT2LMHeadModel, random weights (seed 0, its own initialiser)"
_BERT_SIZES = "sizes of BERT-base, sequence 128"

MODELS = {
    model.name: model
    for model in (
        NamedModel(
            "minilm", "sentence embeddings of 32 tokens, real weights", minilm.build, "all-MiniLM-L6-v2"
        ),
        NamedModel("bert-base", "12 encoder layers, sequence 128, from hidden states", bert.base, _HF),
        NamedModel(
            "bert-base-layer", "1 encoder layer, sequence 128, from hidden states", bert.base_layer, _HF
        ),
        NamedModel(
            "bert-tiny", "2 layers of width 32 with embeddings and padding, for tests", bert.tiny, _HF
        ),
        NamedModel(
            "gpt2",
            "GPT-2 base: logits after 32 one-hot tokens, LM head included",
            gpt2.base,
            _GPT2,
            gpt2.text,
        ),
        NamedModel(
            "gpt2-tiny",
            "2 layers of width 32, 50 tokens: logits after 6 tokens, for tests",
            gpt2.tiny,
            _GPT2,
            gpt2.tiny_text,
        ),
        NamedModel("gelu", "exact GeLU of [128, 3072]", single_ops.gelu, _BERT_SIZES),
        NamedModel(
            "softmax", "softmax of [12, 128, 128] along the last dimension", single_ops.softmax, _BERT_SIZES
        ),
        NamedModel("layernorm", "LayerNorm of [128, 768]", single_ops.layernorm, _BERT_SIZES),
        NamedModel("matmul", "[128, 768] times [768, 3072]", single_ops.matmul, _BERT_SIZES),
    )
}


def named_model(name: str) -> NamedModel:
    """The model of that name; a mistyped one is an InputError with the nearest name."""
    if name not in MODELS:
        raise InputError(f"there is no model '{name}'{nearest(name, MODELS)}")
    return MODELS[name]
