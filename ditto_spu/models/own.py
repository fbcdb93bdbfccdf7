"""Make programs of our own Flax modules: with random weights, a checkpoint's or shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.stored import Settings
from ditto_spu.checkpoints.tokenizer import has_tokenizer
from ditto_spu.errors import InputError
from ditto_spu.models.loaded import LoadedModel, load
from ditto_spu.models.named import Program, Text
from ditto_spu.models.sentences import QUERY, VARIED

if TYPE_CHECKING:
    from ditto_spu.architectures.model import Model

LENGTH = 32  # tokens of each example text of a checkpoint
_CHAT = "What is the capital of France?"


@dataclass(frozen=True)
class OwnModel:
    """A causal model by its settings, as config.json names them.

    sequence, rows, padded: the shape of random ids, and how many places of the last row are padding.
    prompt: tokens of the random prompt to continue.
    """

    settings: Mapping[str, Any]
    sequence: int
    rows: int = 1
    padded: int = 0
    prompt: int = 6

    def build(self) -> Program:
        """Build `fn(params, ids, mask)` with random weights from seed 0."""
        model = self._model()
        return self._program(model, self._random(model))

    def outline(self) -> Program:
        """Build it with shapes in the place of weights."""
        model = self._model()
        return self._program(model, model.outline())

    def load(self, place: Path) -> Program:
        """Build it with the weights and sizes of a checkpoint on disk."""
        return program(self.stored(place))

    def stored(self, place: Path) -> LoadedModel:
        """Load a checkpoint of this family. Raises InputError if it is of another one."""
        return load(place, of=str(self.settings["model_type"]))

    def text(self, weights: Path | None = None, seed: int = 0) -> Text:
        """Return the decoder with a prompt: random weights and ids, or a checkpoint and a question."""
        if weights is not None:
            return text(self.stored(weights))
        model = self._model()
        assert model.decoder is not None
        return Text(
            model.decoder, self._random(model, seed), random_tokens(model.config.vocabulary, 1, self.prompt)
        )

    def _model(self) -> Model:
        from ditto_spu.architectures.table import architecture

        settings = Settings(self.settings, Path("settings"))
        return architecture(settings)[1].model(settings)

    def _random(self, model: Model, seed: int = 0) -> Any:
        import jax

        return jax.device_get(jax.jit(model.initial)(jax.random.PRNGKey(seed)))

    def _program(self, model: Model, params: Any) -> Program:
        ids = random_tokens(model.config.vocabulary, self.rows, self.sequence).astype(np.int32)
        mask = np.ones_like(ids)
        if self.padded:
            mask[-1, -self.padded :] = 0
        return Program(model.fn, (params, ids * mask, mask), public=("mask",), weights=1)


def random_tokens(vocabulary: int, rows: int, length: int, seed: int = 0) -> NDArray[np.int64]:
    """Return random ids [rows, length]."""
    return np.random.default_rng(seed).integers(0, vocabulary, (rows, length))


def program(model: LoadedModel, length: int = LENGTH) -> Program:
    """Build the program of a loaded checkpoint, with sentences as example calls.

    Raises InputError if the checkpoint has no tokenizer.
    """
    calls = [(model.params, *model.tokenizer.batch([each], length)) for each in (QUERY, *VARIED)]
    return Program(model.fn, calls[0], public=model.public, weights=1, examples=tuple(calls[1:]))


def text(model: LoadedModel) -> Text:
    """Return the decoder of a loaded checkpoint, with a short question as its prompt.

    Without a tokenizer the prompt is random ids.

    Raises InputError if it does not generate.
    """
    if model.decoder is None:
        raise InputError(f"{model.source} holds a {model.kind}, which generates no text: choose a decoder")
    if not has_tokenizer(model.source):
        return Text(model.decoder, model.params, random_tokens(model.decoder.vocabulary, 1, 4))
    tokenizer = model.tokenizer
    prompt = tokenizer.chat(_CHAT) if tokenizer.template else tokenizer.encode(_CHAT)
    return Text(model.decoder, model.params, np.asarray([prompt]), tokenizer)
