"""Named models for the command line, the benchmarks and the demo: `MODELS` is the table of all of them."""

from __future__ import annotations

from pathlib import Path

from ditto_spu.errors import InputError, nearest
from ditto_spu.models import bert, marill, minilm, single_ops, trained
from ditto_spu.models.named import NamedModel, Program

__all__ = ["MODELS", "NamedModel", "Program", "named_model"]

_HF = "Hugging Face FlaxBert, random weights (seed 0, its own initialiser)"
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
            "bert-base-marill",
            "bert-base with 6 frozen layers, LoRA, 3 heads",
            marill.base,
            f"{_HF}, adapters",
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
    """The model of that name, or of a folder that `ditto finetune` or `ditto distill` wrote.

    A mistyped name is an InputError with the nearest one.
    """
    if name not in MODELS and ("/" in name or Path(name).is_dir()):
        folder = Path(name)
        card = trained.load_card(folder)
        return NamedModel(
            folder.name, f"classifier of '{card.task}'", trained.builder(folder), "trained here"
        )
    if name not in MODELS:
        raise InputError(f"there is no model '{name}'{nearest(name, MODELS)}")
    return MODELS[name]
