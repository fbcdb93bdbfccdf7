"""Tiny models of every family with random weights, and files of them in the forms that the hub has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
}
GPT2 = {"model_type": "gpt2", "vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 16}
BERT = {
    "model_type": "bert",
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 18,
}
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def torch_weights(settings: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights with the names and shapes that torch gives them, written down by hand."""
    kind = settings["model_type"]
    shapes = {"gpt2": _gpt2, "bert": _bert}.get(kind, _llama)(settings)
    rng = np.random.default_rng(seed)
    # A few binary digits, so that float16 and bfloat16 hold them exactly.
    return {name: (rng.integers(-64, 64, shape) / 256).astype(np.float32) for name, shape in shapes.items()}


def _llama(s: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, words = s["hidden_size"], s["intermediate_size"], s["vocab_size"]
    head = s.get("head_dim", width // s["num_attention_heads"])
    query, key = head * s["num_attention_heads"], head * s["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (words, width),
        "model.norm.weight": (width,),
    }
    for n in range(s["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        for name, rows in (("q", query), ("k", key), ("v", key)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (rows, width)
            if s["model_type"] == "qwen2":
                shapes[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
        shapes |= {
            f"{layer}.self_attn.o_proj.weight": (width, query),
            f"{layer}.mlp.gate_proj.weight": (inner, width),
            f"{layer}.mlp.up_proj.weight": (inner, width),
            f"{layer}.mlp.down_proj.weight": (width, inner),
            f"{layer}.input_layernorm.weight": (width,),
            f"{layer}.post_attention_layernorm.weight": (width,),
        }
    if not s.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = (words, width)
    return shapes


def _gpt2(s: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    width = s["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (s["vocab_size"], width),
        "wpe.weight": (s["n_positions"], width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for n in range(s["n_layer"]):
        for name, (rows, columns) in {
            "attn.c_attn": (width, 3 * width),
            "attn.c_proj": (width, width),
            "mlp.c_fc": (width, 4 * width),
            "mlp.c_proj": (4 * width, width),
        }.items():
            shapes |= {f"h.{n}.{name}.weight": (rows, columns), f"h.{n}.{name}.bias": (columns,)}
        for name in ("ln_1", "ln_2"):
            shapes |= {f"h.{n}.{name}.weight": (width,), f"h.{n}.{name}.bias": (width,)}
        shapes[f"h.{n}.attn.bias"] = (1, 1, 16, 16)  # a mask, which is no weight
    return shapes


def _bert(s: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = s["hidden_size"], s["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (s["vocab_size"], width),
        "embeddings.position_embeddings.weight": (s["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }
    dense = {"attention.self.query": (width, width), "attention.self.key": (width, width)}
    dense |= {"attention.self.value": (width, width), "attention.output.dense": (width, width)}
    dense |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
    for n in range(s["num_hidden_layers"]):
        for name, (rows, columns) in dense.items():
            shapes[f"encoder.layer.{n}.{name}.weight"] = (rows, columns)
            shapes[f"encoder.layer.{n}.{name}.bias"] = (rows,)
    norms = ["embeddings.LayerNorm"]
    for n in range(s["num_hidden_layers"]):
        norms += [f"encoder.layer.{n}.{name}.LayerNorm" for name in ("attention.output", "output")]
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes


def save(
    folder: Path,
    settings: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    dtype: str = "F32",
    shards: int = 1,
) -> Path:
    """Write config.json and safetensors, in one file or in shards."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    cast = {name: np.ascontiguousarray(each.astype(DTYPES[dtype])) for name, each in weights.items()}
    if shards == 1:
        save_file(cast, folder / "model.safetensors", {"format": "pt"})
        return folder
    place = {
        name: f"model-{number % shards + 1:05}-of-{shards:05}.safetensors" for number, name in enumerate(cast)
    }
    for file in set(place.values()):
        save_file({name: cast[name] for name in cast if place[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    return folder


def save_gguf(
    path: Path,
    s: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    kind: str = "F32",
    tokenizer: bool = False,
) -> Path:
    """Write a model of the form of LLAMA as llama.cpp's converter does, its order of rows included."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(s["num_hidden_layers"])
    writer.add_context_length(s["max_position_embeddings"])
    writer.add_embedding_length(s["hidden_size"])
    writer.add_feed_forward_length(s["intermediate_size"])
    writer.add_head_count(s["num_attention_heads"])
    writer.add_head_count_kv(s["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(s["rope_theta"])
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    parts |= {f"self_attn.{each}_proj": f"attn_{each}" for each in "qkv"} | {
        "self_attn.o_proj": "attn_output"
    }
    parts |= {f"mlp.{each}_proj": f"ffn_{each}" for each in ("gate", "up", "down")}
    for name, array in weights.items():
        stem = name.removesuffix(".weight")
        if stem not in names:
            _, _, layer, part = stem.split(".", 3)
            heads = {"self_attn.q_proj": 4, "self_attn.k_proj": 2}.get(part)
            if heads:
                rows, columns = array.shape
                array = (
                    array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
                )
            stem = f"blk.{layer}.{parts[part]}"
        else:
            stem = names[stem]
        quantised = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        writer.add_tensor(f"{stem}.weight", gguf.quants.quantize(array, quantised), raw_dtype=quantised)
    if tokenizer:
        _add_tokenizer(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *"abcdefghijklmnopqrstuvwxyz",
    "Ġ",
    *"0123456789",
    "Ċ",
    "ab",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def _add_tokenizer(writer: Any) -> None:
    tokens = TOKENS + [f"<unused{number}>" for number in range(LLAMA["vocab_size"] - len(TOKENS))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
