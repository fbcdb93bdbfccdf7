"""Checkpoints in every form give the same model, and what is missing, left over or damaged is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import ditto_spu as ditto
from ditto_spu.architectures.table import architecture
from ditto_spu.checkpoints.gguf_names import FAMILIES
from ditto_spu.checkpoints.stored import Settings
from ditto_spu.errors import InputError
from tests.checkpoints.files import BERT, DTYPES, GPT2, LLAMA, save, save_gguf, torch_weights

UNTIED = LLAMA | {"tie_word_embeddings": False}


def same(first: Any, second: Any) -> None:
    assert jax.tree_util.tree_structure(first) == jax.tree_util.tree_structure(second)
    jax.tree_util.tree_map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("settings", [LLAMA, UNTIED, GPT2, BERT], ids=["tied", "untied", "gpt2", "bert"])
def test_torch_and_flax_forms_hold_the_same_model(tmp_path: Path, settings: dict[str, Any]) -> None:
    weights = torch_weights(settings)
    model = ditto.load(save(tmp_path / "torch", settings, weights))
    flat = {".".join(path): leaf for path, leaf in flatten_dict(model.params).items()}
    if settings is LLAMA:
        kernel = flat["model.layers.1.self_attn.k_proj.kernel"]
        np.testing.assert_array_equal(kernel.T, weights["model.layers.1.self_attn.k_proj.weight"])
    leaves = jax.tree_util.tree_leaves(model.params)
    assert all(type(leaf) is np.ndarray and leaf.dtype == np.float32 for leaf in leaves)
    for dtype in DTYPES if settings is LLAMA else ["BF16"]:
        same(ditto.load(save(tmp_path / dtype, settings, weights, dtype, shards=3)).params, model.params)
    same(ditto.load(save(tmp_path / "flax", settings, flat)).params, model.params)
    from flax.serialization import msgpack_serialize

    (tmp_path / "msgpack").mkdir()
    (tmp_path / "msgpack" / "config.json").write_text(json.dumps(settings))
    (tmp_path / "msgpack" / "flax_model.msgpack").write_bytes(msgpack_serialize(model.params))
    same(ditto.load(tmp_path / "msgpack").params, model.params)
    same(ditto.load(tmp_path / "torch" / "model.safetensors").params, model.params)


@pytest.mark.parametrize(
    ("kind", "error"), [("F32", 0), ("F16", 0), ("BF16", 0), ("Q8_0", 0.002), ("Q4_0", 0.04), ("Q4_1", 0.02)]
)
def test_gguf_holds_the_same_model(tmp_path: Path, kind: str, error: float) -> None:
    weights = torch_weights(LLAMA)
    expected = ditto.load(save(tmp_path, LLAMA, weights))
    model = ditto.load(save_gguf(tmp_path / "model.gguf", LLAMA, weights, kind))
    assert model.config == dataclasses.replace(expected.config, epsilon=float(np.float32(1e-6)))
    for mine, other in zip(*map(jax.tree_util.tree_leaves, (model.params, expected.params)), strict=True):
        np.testing.assert_allclose(mine, other, atol=error)


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "Q5_0", "Q2_K"])
def test_gguf_types_that_are_read_as_the_package_reads_them(tmp_path: Path, kind: str) -> None:
    """The package writes none of these: a file of random bytes has to give what `dequantize` gives."""
    import gguf

    from ditto_spu.checkpoints import gguf_file

    quantised = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[quantised]
    raw = np.random.default_rng(0).integers(0, 60, (8, 512 // block * size)).astype(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen2")
    writer.add_tensor("blk.0.ffn_down.weight", raw, raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = gguf_file.read(tmp_path / "model.gguf").tensors["model.layers.0.mlp.down_proj.weight"]
    assert stored.shape == (8, 512)
    np.testing.assert_array_equal(stored.read(), gguf.quants.dequantize(raw, quantised))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    weights = torch_weights(LLAMA)
    norm = "model.layers.1.input_layernorm.weight"
    without = {name: each for name, each in weights.items() if name != norm}
    for changed, message in (
        (without, r"lacks 1 weights of llama, such as 'model\.layers\.1\.input_layernorm\.weight': give"),
        (
            weights | {norm: np.ones(7, np.float32)},
            r"'model\.layers\.1\.input_layernorm\.weight' is \[7\] and not \[32\]",
        ),
        (
            weights | {"model.layers.0.self_attn.q_norm.weight": np.ones(8, np.float32)},
            r"1 weights that llama does not know, such as 'model\.layers\.0\.self_attn\.q_norm\.weight'",
        ),
    ):
        with pytest.raises(InputError, match=message):
            ditto.load(save(tmp_path, LLAMA, changed))
    wrong = {
        "model_type": ("qwen3", "model_type 'qwen3': did you mean 'qwen2'"),
        "hidden_act": ("relu", "sets hidden_act to 'relu', where it needs one that is supported here: silu"),
        "rope_scaling": ({"rope_type": "yarn", "factor": 4.0}, "sets rope_type to 'yarn'"),
        "partial_rotary_factor": (0.5, "sets partial_rotary_factor to 0.5"),
        "hidden_size": ("big", "sets hidden_size to 'big', where it needs a whole number"),
        "quantization_config": ({"quant_method": "gptq"}, r"quantised for other software \(gptq\)"),
        "rope_parameters": ("linear", "sets rope_parameters to 'linear', where it needs an object"),
        "rope_factors": (5, "sets rope_factors to 5, where it needs 4 numbers"),
    }
    scalings = (
        ({"type": "linear"}, "sets factor to None"),
        ({"rope_type": "llama3", "factor": 8.0}, "sets original_max_position_embeddings to None"),
        ({"kind": "linear", "factor": 4.0}, "sets rope_type to None"),
        ([4.0], r"sets rope_scaling to \[4.0\], where it needs an object"),
    )
    changes = [(name, *each) for name, each in wrong.items()]
    changes += [("rope_scaling", *each) for each in scalings]
    changes += [("model_type", ["llama"], "sets model_type to .*, where it needs one of llama, mistral")]
    changes += [("quantization_config", True, r"for other software \(quantization_config\)")]
    for name, value, message in changes:
        with pytest.raises(InputError, match=message):
            ditto.load(save(tmp_path, LLAMA | {name: value}, weights))


@pytest.mark.parametrize("settings", [LLAMA, GPT2, BERT], ids=["llama", "gpt2", "bert"])
def test_a_misspelt_setting_is_named(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()
    for method in ("whole", "number", "flag", "choice", "part"):
        read = getattr(Settings, method)

        def recorded(self: Settings, name: str, *rest: Any, read: Any = read) -> Any:
            asked.add(name)
            return read(self, name, *rest)

        monkeypatch.setattr(Settings, method, recorded)
    kind, found = architecture(Settings(settings, tmp_path))
    found.model(Settings(settings, tmp_path))
    assert len(asked) > 10 and asked <= found.settings | {"rope_type"}  # which stands in rope_scaling
    name = {"llama": "rope_theta", "gpt2": "n_head", "bert": "num_attention_heads"}[kind]
    wrong = {f"{key}x" if key == name else key: each for key, each in settings.items()}
    with pytest.raises(InputError, match=f"sets '{name}x', which is no setting, and leaves '{name}' out"):
        ditto.load(save(tmp_path, wrong, torch_weights(settings)))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given by its path, and not by None"):
        ditto.load(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"there is no folder or file .*nowhere: give the folder"):
        ditto.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        ditto.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(InputError, match=r"holds no weights: expected model\.safetensors"):
        ditto.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickled torch files, which can run code"):
        ditto.load(tmp_path)
    save(tmp_path, LLAMA, torch_weights(LLAMA))
    whole = (tmp_path / "model.safetensors").read_bytes()
    for damaged in (b"no tensors", whole[:-4], b"\xff" * 8 + whole[8:], whole[:8] + b"[" + whole[9:], b""):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match="is no complete safetensors file"):
            ditto.load(tmp_path)
    save(tmp_path / "cut", LLAMA, torch_weights(LLAMA), shards=2)
    (tmp_path / "cut" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks the shard model-00002-of-00002\.safetensors"):
        ditto.load(tmp_path / "cut")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(InputError, match=r"model\.gguf is no complete GGUF file|architecture 'None'"):
        ditto.load(tmp_path / "model.gguf")


@pytest.mark.parametrize("name", FAMILIES)
def test_names_of_gguf_are_those_of_the_package(name: str) -> None:
    import gguf

    family = FAMILIES[name]
    kinds = {text: kind for kind, text in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[name], 3)
    for mine, torchs in family.whole.items():
        assert names.get_name(torchs) == mine
    for mine, torchs in family.layer.items():
        assert names.get_name(torchs.format(n=2)) == f"blk.2.{mine}"
