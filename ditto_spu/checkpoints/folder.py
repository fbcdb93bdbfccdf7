"""Find the files of a checkpoint: a folder as `save_pretrained` writes it, or one file of weights."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints import gguf_file, safetensors_file
from ditto_spu.checkpoints.stored import Checkpoint, Settings, Stored
from ditto_spu.errors import InputError

SAFETENSORS, MSGPACK = "model.safetensors", "flax_model.msgpack"
_FORMS = f"{SAFETENSORS} (or its shards with {SAFETENSORS}.index.json), {MSGPACK} or a .gguf file"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def open_checkpoint(place: str | Path) -> Checkpoint:
    """Open a checkpoint: a folder, a .gguf file, or a .safetensors file with config.json beside it.

    Nothing is downloaded, and pickled files are never opened. Values are read when they are used. Raises
    InputError if there is nothing, if files are missing or damaged, or if they are of another form.
    """
    if not isinstance(place, str | Path):
        raise InputError(f"a checkpoint is given by its path, and not by {place!r}")
    path = Path(place)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise InputError(
            f"there is no folder or file {path}: give the folder that save_pretrained wrote (config.json and "
            "weights) or a .gguf file"
        )
    if path.suffix == ".gguf":
        return gguf_file.read(path)
    if path.suffix == ".safetensors":
        return Checkpoint(path, settings(path.parent), safetensors_file.read(path))
    raise InputError(f"{path} is no checkpoint: give a folder with config.json and {_FORMS}")


def _folder(folder: Path) -> Checkpoint:
    quantised = sorted(folder.glob("*.gguf"))
    if not (folder / "config.json").is_file() and quantised:
        if len(quantised) > 1:
            names = ", ".join(each.name for each in quantised)
            raise InputError(f"{folder} holds several .gguf files ({names}): give the path of one of them")
        return gguf_file.read(quantised[0])
    found = settings(folder)
    for name, reader in ((SAFETENSORS, safetensors_file.read), (MSGPACK, _msgpack)):
        if (folder / name).is_file():
            return Checkpoint(folder, found, reader(folder / name))
        if (folder / f"{name}.index.json").is_file():
            tensors: dict[str, Stored] = {}
            for shard in _shards(folder / f"{name}.index.json"):
                tensors |= reader(shard)
            return Checkpoint(folder, found, tensors)
    if any((folder / name).is_file() for name in _PICKLES):
        raise InputError(
            f"{folder} holds its weights as pickled torch files, which can run code and are never opened "
            "here: load them where they come from and save_pretrained(folder, safe_serialization=True)"
        )
    raise InputError(f"{folder} holds no weights: expected {_FORMS}")


def settings(folder: Path) -> Settings:
    """Return what config.json in a folder says. Raises InputError if it is missing or damaged."""
    values = json_file(folder / "config.json")
    if values is None:
        raise InputError(f"{folder} holds no config.json: give the folder that save_pretrained wrote")
    if quantised := values.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise InputError(
            f"{folder} holds weights that were quantised for other software "
            f"({method or 'quantization_config'}): "
            "give the model in float32, float16 or bfloat16, or as GGUF"
        )
    return Settings({**values, **_sentences(folder)}, folder / "config.json")


def _sentences(folder: Path) -> dict[str, Any]:
    """Return how a model of sentence-transformers makes an embedding of hidden states, if it is one."""
    if not (folder / "modules.json").is_file():
        return {}
    parts = _json(folder / "modules.json")
    kinds = [str(each.get("type", "")).rsplit(".", 1)[-1] for each in parts if isinstance(each, dict)]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(
            f"{folder / 'modules.json'} chains {', '.join(kinds)}: supported are a Transformer, a Pooling "
            "and perhaps a Normalize"
        )
    modes = json_file(folder / str(parts[1].get("path", "1_Pooling")) / "config.json") or {}
    chosen = [name for name, on in modes.items() if name.startswith("pooling_mode_") and on]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(chosen) != 1 or chosen[0] not in known:
        raise InputError(
            f"{folder} pools by {', '.join(chosen) or 'nothing'}: supported is one of {', '.join(known)}"
        )
    return {"pooling": known[chosen[0]], "normalised": kinds[-1] == "Normalize"}


def json_file(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file. A damaged file is an InputError."""
    values = _json(path) if path.is_file() else None
    if not isinstance(values, dict | type(None)):
        raise InputError(f"{path} holds no JSON object: download or save it again")
    return values


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): download or save it again") from None


def _shards(index: Path) -> list[Path]:
    named = (json_file(index) or {}).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(each, str) for each in named.values()):
        raise InputError(f"{index} lists no shards (weight_map): download or save it again")
    shards = [index.parent / name for name in sorted(set(named.values()))]
    for shard in shards:
        if shard.parent != index.parent:
            raise InputError(f"{index} names a shard outside of its folder: download or save it again")
        if not shard.is_file():
            raise InputError(f"{shard.parent} lacks the shard {shard.name}: download it beside the others")
    return shards


def _msgpack(path: Path) -> dict[str, Stored]:
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    try:
        flat = flatten_dict(msgpack_restore(path.read_bytes()), sep=".")
    except Exception as error:  # msgpack and flax raise errors of many kinds for files of another form
        raise InputError(f"{path} is no complete file of Flax ({error}): save it again") from None
    return {name: Stored(np.shape(value), partial(_float32, value)) for name, value in flat.items()}


def _float32(value: Any) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)
