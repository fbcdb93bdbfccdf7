"""List the families of models that checkpoints may hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ditto_spu.architectures import bert, gpt2, llama
from ditto_spu.architectures.model import Model
from ditto_spu.checkpoints.match import BUFFERS
from ditto_spu.checkpoints.stored import Settings
from ditto_spu.errors import InputError, nearest

_HEAD = rf"{BUFFERS}|lm_head\..*"  # a tied head, which some files repeat
_ENCODER = rf"{BUFFERS}|(.*\.)?(pooler|cls|lm_head)\..*"  # what pre-training needs


@dataclass(frozen=True)
class Architecture:
    """A family.

    settings: the names of all settings that the model reads.
    base: the part whose prefix some checkpoints leave out.
    spare: a regular expression of tensors that the model does not need.
    """

    model: Callable[[Settings], Model]
    settings: frozenset[str]
    base: str
    spare: str


_LLAMA = Architecture(llama.model, llama.SETTINGS, "model", _HEAD)
_ROBERTA = Architecture(bert.model, bert.SETTINGS, "roberta", _ENCODER)
ARCHITECTURES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "gpt2": Architecture(gpt2.model, gpt2.SETTINGS, "transformer", _HEAD),
    "bert": Architecture(bert.model, bert.SETTINGS, "bert", _ENCODER),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def architecture(settings: Settings) -> tuple[str, Architecture]:
    """Return family and architecture of a checkpoint.

    Raises InputError if there is no such family, or if a setting looks misspelt.
    """
    kind = settings.values.get("model_type")
    if not isinstance(kind, str):
        raise settings.wrong("model_type", kind, f"one of {', '.join(ARCHITECTURES)}")
    if kind not in ARCHITECTURES:
        raise InputError(f"{settings.source} is of model_type '{kind}'{nearest(kind, ARCHITECTURES)}")
    settings.require_spelling(ARCHITECTURES[kind].settings)
    return kind, ARCHITECTURES[kind]
