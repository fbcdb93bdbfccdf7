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
    """A family: its model, the part whose prefix some checkpoints leave out, and tensors that it ignores."""

    model: Callable[[Settings], Model]
    base: str
    spare: str


_LLAMA = Architecture(llama.model, "model", _HEAD)
_ROBERTA = Architecture(bert.model, "roberta", _ENCODER)
ARCHITECTURES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "gpt2": Architecture(gpt2.model, "transformer", _HEAD),
    "bert": Architecture(bert.model, "bert", _ENCODER),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def architecture(settings: Settings) -> tuple[str, Architecture]:
    """Return family and architecture of a checkpoint. Raises InputError if there is no such family."""
    kind = settings.values.get("model_type")
    if kind not in ARCHITECTURES:
        raise InputError(
            f"{settings.source} is of model_type '{kind}'{nearest(str(kind), ARCHITECTURES)}: supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    return kind, ARCHITECTURES[kind]
