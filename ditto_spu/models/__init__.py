"""List the named models of the command line, the benchmarks and the demo.

`MODELS` is the table of all of them.
"""

from __future__ import annotations

from pathlib import Path

from ditto_spu.errors import InputError, nearest
from ditto_spu.models import (
    bert,
    encoders,
    gpt2,
    llama,
    marill,
    minilm,
    own,
    plain,
    single_ops,
    t5,
    trained,
    unet,
    vit,
)
from ditto_spu.models.hugging_face import HuggingFace
from ditto_spu.models.loaded import load
from ditto_spu.models.named import NamedModel, Pictures, Program, Text

__all__ = ["MODELS", "NamedModel", "Pictures", "Program", "Text", "named_model"]

_HF = "Hugging Face FlaxBert, random weights (seed 0, its own initialiser)"
_GPT2 = "random, or --weights"
_BERT_SIZES = "sizes of BERT-base, sequence 128"
_RANDOM = "random, or --weights"


def _model(name: str, description: str, what: HuggingFace, parameters: int) -> NamedModel:
    source = f"{what.model_class}, {_RANDOM}"
    return NamedModel(name, description, what.build, source, parameters, load=what.load, outline=what.outline)


def _llama(name: str, description: str, what: own.OwnModel, parameters: int) -> NamedModel:
    return NamedModel(
        name,
        description,
        what.build,
        _RANDOM,
        parameters,
        load=what.load,
        outline=what.outline,
        text=what.text,
    )


def _pictures(name: str, description: str, what: unet.PictureModel, parameters: int) -> NamedModel:
    source = "trained on scikit-learn's digits" if what.trained else "flax.linen, random"
    return NamedModel(name, description, what.build, source, parameters, pictures=what.pictures)


# The numbers of parameters at the full size and at the tiny one, by family and task.
_ENCODER_PARAMETERS = {
    "bert": (109_482_240, 19_072),
    "bert-classifier": (109_483_778, 20_514),
    "bert-qa": (108_893_186, 19_458),
    "bert-embedding": (109_482_240, 20_448),
    "roberta": (124_645_632, 20_416),
    "roberta-classifier": (124_647_170, 20_482),
    "roberta-qa": (124_056_578, 19_426),
    "roberta-embedding": (124_645_632, 20_416),
    "distilbert": (66_362_880, 19_328),
    "distilbert-classifier": (66_955_010, 20_450),
    "distilbert-qa": (66_364_418, 19_394),
    "distilbert-embedding": (66_362_880, 19_328),
}


def _encoders() -> list[NamedModel]:
    made = []
    for family in encoders.FAMILIES:
        for task, (_, description, _) in encoders.TASKS.items():
            for tiny, parameters in zip((False, True), _ENCODER_PARAMETERS[family + task], strict=True):
                size = "tiny, two sentences of 8 tokens" if tiny else "sequence 128"
                what = encoders.encoder(family, task, tiny)
                name = family + task + ("-tiny" if tiny else "")
                if name != "bert-tiny":
                    made.append(_model(name, f"{description}, {size}", what, parameters))
    return made


MODELS = {
    model.name: model
    for model in (
        NamedModel(
            "minilm",
            "sentence embeddings of 32 tokens, real weights",
            minilm.build,
            "all-MiniLM-L6-v2",
            22_565_376,
        ),
        NamedModel(
            "bert-base", "12 encoder layers, sequence 128, from hidden states", bert.base, _HF, 85_054_464
        ),
        NamedModel(
            "bert-base-marill",
            "bert-base with 6 frozen layers, LoRA, 3 heads",
            marill.base,
            f"{_HF}, adapters",
            85_128_192,
        ),
        NamedModel(
            "bert-base-layer",
            "1 encoder layer, sequence 128, from hidden states",
            bert.base_layer,
            _HF,
            7_087_872,
        ),
        NamedModel(
            "bert-large-layer",
            "1 encoder layer of BERT-large, sequence 128, from hidden states",
            bert.large_layer,
            _HF,
            12_596_224,
        ),
        NamedModel(
            "bert-tiny", "2 layers of width 32 with embeddings and padding, for tests", bert.tiny, _HF, 19_072
        ),
        *_encoders(),
        _model("vit", "image classification, ViT-B/16, 224 x 224", vit.BASE, 86_567_656),
        _model("vit-tiny", "image classification, tiny, two images of 16 x 16", vit.TINY, 23_685),
        _llama("llama", "logits of 32 tokens, sizes of TinyLlama-1.1B", llama.FULL, 1_100_048_384),
        _llama("llama-layer", "the same with 1 layer and 1000 words", llama.LAYER, 48_142_336),
        _llama("llama-tiny", "logits, tiny, two prompts of 8 tokens", llama.TINY, 21_792),
        _model("t5", "logits of 8 tokens after 64, sizes of t5-small", t5.BASE, 60_506_624),
        _model("t5-tiny", "logits, tiny", t5.TINY, 43_200),
        _model("t5-gated", "the same, sizes of t5-v1_1-small: gated GeLU", t5.GATED_BASE, 76_961_152),
        _model("t5-gated-tiny", "logits, tiny, gated GeLU", t5.GATED_TINY, 52_992),
        NamedModel("linen-tiny", "a causal decoder block", plain.linen, "plain flax.linen, random", 12_018),
        NamedModel("nnx-tiny", "an encoder block", plain.nnx, "flax.nnx, random", 10_144),
        NamedModel(
            "gpt2",
            "GPT-2 base: logits after 32 one-hot tokens, LM head included",
            gpt2.base,
            _GPT2,
            124_439_808,
            load=gpt2.stored,
            text=gpt2.text,
        ),
        NamedModel(
            "gpt2-tiny",
            "2 layers of width 32, 50 tokens: logits after 6 tokens, for tests",
            gpt2.tiny,
            _GPT2,
            27_584,
            load=gpt2.stored,
            text=gpt2.tiny_text,
        ),
        _pictures("unet-digits", "noise in a digit of 8 x 8, one of ten classes", unet.DIGITS, 177_553),
        _pictures("unet-cipherdm", "noise in a picture of 28 x 28, CipherDM's size", unet.CIPHERDM, 11_669),
        _pictures("unet", "noise in a picture of 28 x 28, attention at 7 x 7", unet.MNIST, 1_112_801),
        NamedModel("gelu", "exact GeLU of [128, 3072]", single_ops.gelu, _BERT_SIZES),
        NamedModel(
            "softmax", "softmax of [12, 128, 128] along the last dimension", single_ops.softmax, _BERT_SIZES
        ),
        NamedModel("layernorm", "LayerNorm of [128, 768]", single_ops.layernorm, _BERT_SIZES, 1_536),
        NamedModel("matmul", "[128, 768] times [768, 3072]", single_ops.matmul, _BERT_SIZES),
    )
}


def named_model(name: str) -> NamedModel:
    """Return the model of that name, or the one at a path.

    A path leads to a checkpoint for `ditto.load`, or to a folder of `ditto finetune` or `ditto distill`.
    An unknown name raises an InputError that suggests the nearest one.
    """
    path = Path(name)
    if name not in MODELS and ("/" in name or path.exists()):
        if not path.exists():
            raise InputError(
                f"there is no folder or file '{name}': give the path of a checkpoint, or make one with "
                f"`ditto finetune --out {name}`"
            )
        if path.is_file() or not (path / trained.CARD).is_file():
            return _checkpoint(path)
        card = trained.load_card(path)
        return NamedModel(path.name, f"classifier of '{card.task}'", trained.builder(path), "trained here")
    if name not in MODELS:
        hint = nearest(name, MODELS) or ": `ditto models` lists all"
        raise InputError(f"there is no model '{name}'{hint}")
    return MODELS[name]


def _checkpoint(path: Path) -> NamedModel:
    def text(weights: Path | None) -> Text:
        if weights is not None:
            raise InputError(f"model '{path}' is a checkpoint itself: leave --weights out")
        return own.text(load(path))

    return NamedModel(
        path.name,
        "a checkpoint",
        lambda: own.program(load(path)),
        str(path),
        text=text,
    )
