"""Turn a Flax class of Hugging Face into a Program, with random weights, a checkpoint's or shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.folder import open_checkpoint
from ditto_spu.checkpoints.match import BUFFERS, fill, shapes
from ditto_spu.errors import InputError
from ditto_spu.models.classes import flax_class
from ditto_spu.models.named import Program

# What checkpoints hold beside the weights of a task: heads of other tasks, and tables that T5 stores twice.
_SPARE = (
    rf"{BUFFERS}|(.*\.)?(pooler|cls|lm_head|(pre_)?classifier|qa_outputs|vocab_\w+)\..*|"
    r"(encoder|decoder)\.embed_tokens\.weight|.*EncDecAttention\.relative_attention_bias\.weight"
)
Inputs = Callable[[Any], tuple[NDArray[Any], ...]]


@dataclass(frozen=True)
class HuggingFace:
    """A Flax class of transformers, the options of its configuration, and the function to compute with it.

    sizes: options of the configuration class.
    inputs: maps the configuration to example inputs.
    function: maps the model to `fn(params, *inputs)`.
    public: the names of public inputs.
    """

    model_class: str
    config_class: str
    sizes: Mapping[str, Any]
    inputs: Inputs
    function: Callable[[Any], Callable[..., Any]]
    public: tuple[str, ...] = ()

    def build(self) -> Program:
        """Build the program with random weights from seed 0 and the class's own initialiser."""
        import jax

        model, initialise = self._model()
        return self._program(model, jax.device_get(jax.jit(initialise)(jax.random.PRNGKey(0))))

    def outline(self) -> Program:
        """Build the program with shapes in the place of weights."""
        import jax

        model, initialise = self._model()
        return self._program(model, jax.eval_shape(initialise, jax.random.PRNGKey(0)))

    def load(self, place: Path) -> Program:
        """Build the program with the weights and sizes of a checkpoint on disk, in any form of `ditto.load`.

        Raises InputError for a checkpoint of another family, or whose weights do not fit.
        """
        import transformers

        checkpoint = open_checkpoint(place)
        wanted = getattr(transformers, self.config_class)
        kind = checkpoint.settings.values.get("model_type")
        if kind != wanted.model_type:
            raise InputError(f"{place} does not hold a {self.model_class}: it is of model_type '{kind}'")
        config = wanted.from_dict(dict(checkpoint.settings.values))
        model = flax_class(self.model_class)(config, _do_init=False)
        params = fill(
            shapes(model.params_shape_tree),
            checkpoint,
            what=self.model_class,
            base=model.base_model_prefix,
            spare=_SPARE,
        )
        return self._program(model, params)

    def _model(self) -> tuple[Any, Callable[[Any], Any]]:
        import transformers

        config = getattr(transformers, self.config_class)(**self.sizes)
        model = flax_class(self.model_class)(config, _do_init=False)

        def initialise(key: Any) -> Any:
            from flax.core import unfreeze

            return unfreeze(model.init_weights(key, model.input_shape))

        return model, initialise

    def _program(self, model: Any, params: Any) -> Program:
        arguments = (params, *self.inputs(model.config))
        return Program(self.function(model), arguments, self.public, weights=1)


def tokens(
    sequence: int, padded: int = 0, rows: int = 1
) -> Callable[[Any], tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Return a function that maps a configuration to random ids and their mask, each [rows, sequence].

    The last `padded` positions of the last row are padding.
    """

    def make(config: Any) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        ids = np.random.default_rng(0).integers(2, config.vocab_size, (rows, sequence)).astype(np.int32)
        mask = np.ones((rows, sequence), np.int32)
        if padded:
            mask[-1, -padded:] = 0
        return np.where(mask, ids, config.pad_token_id or 0).astype(np.int32), mask

    return make
