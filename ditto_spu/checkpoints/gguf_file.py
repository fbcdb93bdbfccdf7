"""Read GGUF files: metadata become settings, and quantised tensors become float32 at their use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.checkpoints.gguf_names import FAMILIES, Family
from ditto_spu.checkpoints.stored import Checkpoint, Settings, Stored
from ditto_spu.errors import InputError

_POOLING = {1: "mean", 2: "cls"}
_ROPE_FACTORS = "rope_freqs.weight"  # Llama 3's scaling, one factor for each frequency


def read(path: Path) -> Checkpoint:
    """Open a GGUF file. Tensors have the names and the order of rows that torch gives them.

    Raises InputError if the package `gguf` is missing, if the file is damaged, or if it holds another
    architecture than those of `gguf_names.FAMILIES`.
    """
    reader = _open(path)
    # The lists of tokens are long, and reading weights takes none of them.
    fields = {
        name: each.contents() for name, each in reader.fields.items() if not name.startswith("tokenizer.")
    }
    architecture = fields.get("general.architecture")
    if architecture not in FAMILIES:
        raise InputError(
            f"{path} holds a model of architecture '{architecture}': supported are {', '.join(FAMILIES)}"
        )
    family = FAMILIES[architecture]
    raw = {each.name: each for each in reader.tensors}
    values = _settings(fields, architecture, family, raw)
    heads = (values.get("num_attention_heads"), values.get("num_key_value_heads"))
    tensors = {
        _torch_name(name, family): _stored(path, each, family, heads)
        for name, each in raw.items()
        if name != _ROPE_FACTORS
    }
    return Checkpoint(path, Settings(values, path), tensors)


def metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file by key, with the errors of `read`."""
    return {name: each.contents() for name, each in _open(path).fields.items()}


def _open(path: Path) -> Any:
    try:
        import gguf
    except ImportError:
        raise InputError(
            f"{path} is a GGUF file, which needs two more packages: run `pip install ditto-spu[checkpoints]`"
        ) from None
    try:
        return gguf.GGUFReader(path)
    except Exception as error:  # the package raises errors of many kinds for files of another form
        raise InputError(f"{path} is no complete GGUF file ({error}): download it again") from None


def _settings(
    fields: Mapping[str, Any], architecture: str, family: Family, raw: Mapping[str, Any]
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model_type": family.model_type,
        "tie_word_embeddings": "output.weight" not in raw,
    }
    for key, name in family.settings.items():
        if (value := fields.get(f"{architecture}.{key}")) is not None:
            values[name] = value
    if "rotary_width" in values:
        values.setdefault("head_dim", values["rotary_width"])
    if "token_embd.weight" in raw:
        values["vocab_size"] = int(raw["token_embd.weight"].shape[1])
    if "token_types.weight" in raw:
        values["type_vocab_size"] = int(raw["token_types.weight"].shape[1])
    if "blk.0.attn_q.bias" in raw:
        values["attention_bias"] = True
    if _ROPE_FACTORS in raw:
        values["rope_factors"] = np.asarray(raw[_ROPE_FACTORS].data, np.float32).tolist()
    scaling = fields.get(f"{architecture}.rope.scaling.type")
    if scaling not in (None, "none"):
        values["rope_scaling"] = {
            "rope_type": scaling,
            "factor": fields.get(f"{architecture}.rope.scaling.factor"),
        }
    pooling = fields.get(f"{architecture}.pooling_type")
    if pooling in _POOLING:
        values["pooling"] = _POOLING[pooling]
    return values


def _torch_name(name: str, family: Family) -> str:
    """Return what torch calls a tensor. A tensor that the table lacks keeps its name, and is refused."""
    stem, _, kind = name.rpartition(".")
    if found := re.fullmatch(r"blk\.(\d+)\.(\w+)", stem):
        layer, part = found.groups()
        return f"{family.layer[part].format(n=layer)}.{kind}" if part in family.layer else name
    return f"{family.whole[stem]}.{kind}" if stem in family.whole else name


def _stored(path: Path, tensor: Any, family: Family, heads: tuple[int | None, int | None]) -> Stored:
    from gguf import quants

    shape = tuple(int(size) for size in reversed(tensor.shape))
    part = tensor.name.rpartition(".")[0].rpartition(".")[2]
    rows = heads[0] if part == "attn_q" else heads[1] or heads[0]
    turned = part in family.transposed and len(shape) == 2

    def values() -> NDArray[np.float32]:
        try:
            array = np.asarray(quants.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
        except NotImplementedError:
            raise InputError(
                f"{path} has '{tensor.name}' as {tensor.tensor_type.name}, which the package gguf cannot read"
            ) from None
        if part in family.rotated and rows:
            # llama.cpp pairs neighbouring rows of a head, and torch pairs its halves.
            array = array.reshape(rows, shape[0] // rows // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
        return array.T if turned else array

    return Stored(shape[::-1] if turned else shape, values)
