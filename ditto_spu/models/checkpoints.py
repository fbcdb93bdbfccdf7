"""Load weights from disk, as Hugging Face's `save_pretrained` writes them. No hub is contacted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ditto_spu.errors import InputError
from ditto_spu.models.classes import flax_class

WEIGHTS = ("flax_model.msgpack", "model.safetensors", "flax_model.msgpack.index.json")


def load(model_class: str, folder: Path) -> tuple[Any, Any]:
    """Return (model, params) of the Flax class of that name, with params as numpy arrays in float32.

    Raises InputError if there is no such folder, if it has no configuration or weights, or if it lacks
    weights of this class.
    """
    _check(folder)
    import jax
    import numpy as np
    from flax.core import unfreeze
    from flax.traverse_util import flatten_dict
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # missing weights are checked below, and surplus weights do no harm
    try:
        model, params = flax_class(model_class).from_pretrained(folder, local_files_only=True, _do_init=False)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        lines = str(error).strip().splitlines()
        raise InputError(f"{folder} does not hold a {model_class}: {lines[0] if lines else error}") from None
    finally:
        logging.set_verbosity(verbosity)
    params = unfreeze(params)
    wanted, found = (flatten_dict(unfreeze(tree)) for tree in (model.params_shape_tree, params))
    if missing := ["/".join(path) for path in wanted if path not in found]:
        raise InputError(
            f"{folder} lacks {len(missing)} weights of {model_class}, such as {missing[0]}: "
            "give a checkpoint that was trained for this task"
        )
    return model, jax.tree_util.tree_map(lambda leaf: np.asarray(leaf, np.float32), params)


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}: give the one that save_pretrained wrote (config.json and weights)"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} holds no config.json: give the folder that save_pretrained wrote")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise InputError(f"{folder} holds no weights: expected {WEIGHTS[0]} or {WEIGHTS[1]}")
