"""Load a checkpoint into a model of our own: a function, its parameters, and a decoder if it generates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditto_spu.checkpoints.folder import open_checkpoint
from ditto_spu.checkpoints.match import fill, shapes
from ditto_spu.errors import InputError
from ditto_spu.generation.decoder import Decoder

if TYPE_CHECKING:
    from ditto_spu.checkpoints.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """A model from disk, ready for `secure(model.fn, public=model.public)` and for `generate`.

    kind: its family, such as "llama".
    fn: `fn(params, ids, mask)` with ids and mask [batch, length]. It returns what `output` says.
    output: "logits" [batch, length, vocabulary], "states" [batch, length, width], "embedding" [batch, width]
        of length 1, or "classes" [batch, classes].
    params: nested dictionaries of float32 arrays.
    config: sizes and choices.
    decoder: the model for `generate`, with tokens as one-hot rows. None if it does not generate.
    source: the folder or file.
    """

    kind: str
    fn: Callable[..., Any]
    output: str
    params: Any
    config: Any
    decoder: Decoder | None
    source: Path
    public: tuple[str, ...] = ("mask",)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the checkpoint. Raises InputError if it has none that can be read."""
        from ditto_spu.checkpoints.tokenizer import open_tokenizer

        return open_tokenizer(self.source)


def load(place: str | Path, *, of: str | None = None) -> LoadedModel:
    """Load a checkpoint: a folder as the hub has it, a .gguf file or a .safetensors file.

    Families: Llama, Mistral, Qwen 2 and 2.5, SmolLM2, GPT-2, BERT, RoBERTa, XLM-RoBERTa and sentence
    embeddings made of these. Weights may be float32, float16 or bfloat16, in one file or in shards, written
    by torch or Flax, or GGUF with the types that the package `gguf` reads (`pip install
    ditto-spu[checkpoints]`). Neither torch nor a network is needed.

    of: the family that the checkpoint has to be of, such as "llama". None accepts every family.

    Raises InputError for a family or setting that is not supported, and names weights that are missing, left
    over or of another shape.
    """
    from ditto_spu.architectures.table import ARCHITECTURES, architecture

    checkpoint = open_checkpoint(place)
    kind, found = architecture(checkpoint.settings)
    if of is not None and found is not ARCHITECTURES[of]:
        raise InputError(
            f"{checkpoint.source} holds a {kind}, where a {of} is wanted: give its path as the model"
        )
    model = found.model(checkpoint.settings)
    params = fill(shapes(model.outline()), checkpoint, what=kind, base=found.base, spare=found.spare)
    return LoadedModel(kind, model.fn, model.output, params, model.config, model.decoder, checkpoint.source)
