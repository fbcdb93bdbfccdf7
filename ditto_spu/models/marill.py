"""Build models by Marill's recipe, which makes them cheap under MPC.

Source: Rathee et al., MPC-Minimized Secure LLM Inference, arXiv 2408.03561. Fine-tuning leaves the leading
layers of a public model as they are, so the client runs them itself. In the other layers it changes only
low-rank adapters (LoRA), which the server keeps secret. These layers also have fewer and wider attention
heads, so softmax has fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ditto_spu.errors import InputError
from ditto_spu.models.named import Program

ADAPTED = ("query", "value")  # projections that LoRA adapts: Hu et al., arXiv 2106.09685, section 4.2


def base() -> Program:
    """Build BERT-base with six frozen layers. The other six have adapters of rank 4 and three heads."""
    return encoder(frozen=6)


def tiny() -> Program:
    """Build a small version for tests."""
    return encoder(2, 1, rank=2, heads=2, sequence=8, hidden_size=32, num_attention_heads=4)


def encoder(
    layers: int = 12,
    frozen: int = 6,
    rank: int = 4,
    heads: int = 3,
    sequence: int = 128,
    adapted: Sequence[str] = ADAPTED,
    **sizes: Any,
) -> Program:
    """Build `fn(base, adapters, hidden)` on hidden states [1, sequence, hidden_size] of a Flax BERT encoder.

    The base weights are public. The adapters belong to "server" and the hidden states to "client".

    layers: the number of all layers.
    frozen: how many leading layers are public and unchanged.
    rank, heads, adapted: rank of the adapters, number of heads and adapted projections in the other layers.
    sizes: options of transformers.BertConfig.

    Raises InputError if all layers are frozen, or if the heads do not divide the hidden size.
    """
    import jax
    from transformers import BertConfig
    from transformers.models.bert.modeling_flax_bert import FlaxBertEncoder

    if not 0 <= frozen < layers:
        raise InputError(f"of {layers} layers {frozen} cannot be frozen: leave one to the parties at least")
    sizes = {"intermediate_size": 4 * sizes["hidden_size"]} | sizes if "hidden_size" in sizes else sizes
    plain = BertConfig(num_hidden_layers=frozen, **sizes)
    if heads < 1 or plain.hidden_size % heads:
        raise InputError(f"{heads} heads do not divide a hidden size of {plain.hidden_size}")
    merged = BertConfig(**{**sizes, "num_hidden_layers": layers - frozen, "num_attention_heads": heads})
    leading, trailing = FlaxBertEncoder(plain), FlaxBertEncoder(merged)
    states = np.random.default_rng(0).standard_normal((1, sequence, plain.hidden_size)).astype(np.float32)

    def initialise() -> Any:
        keys = jax.random.split(jax.random.PRNGKey(0))
        return {
            name: module.init(key, states, None, None, return_dict=False).get("params", {})
            for name, module, key in zip(("frozen", "tuned"), (leading, trailing), keys, strict=True)
        }

    def encode(base: Any, adapters: Any, hidden: Any) -> Any:
        if frozen:
            hidden = leading.apply({"params": base["frozen"]}, hidden, None, None, return_dict=False)[0]
        tuned = with_adapters(base["tuned"], adapters)
        return trailing.apply({"params": tuned}, hidden, None, None, return_dict=False)[0]

    weights = jax.device_get(jax.jit(initialise)())
    adapters = lora(weights["tuned"], rank, adapted)
    owner = {"adapters": "server", "hidden": "client"}
    return Program(encode, (weights, adapters, states), public=("base",), weights=2, owner=owner)


def lora(
    params: Mapping[str, Any], rank: int, adapted: Sequence[str] = ADAPTED, seed: int = 0
) -> dict[str, Any]:
    """Return random adapters {"a": [in, rank], "b": [rank, out]} for the kernels of adapted Dense layers."""
    rng = np.random.default_rng(seed)

    def adapters(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
        if name in adapted and "kernel" in tree:
            rows, columns = tree["kernel"].shape
            a, b = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
            return {"a": np.float32(a / np.sqrt(rows)), "b": np.float32(0.02 * b)}
        found = {key: adapters(each, key) for key, each in tree.items() if isinstance(each, Mapping)}
        return {key: each for key, each in found.items() if each}

    return adapters(params, "")


def with_adapters(params: Mapping[str, Any], adapters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with a @ b added to every kernel that has adapters."""
    merged = dict(params)
    for key, each in adapters.items():
        if "a" in each:
            merged[key] = {**params[key], "kernel": params[key]["kernel"] + each["a"] @ each["b"]}
        else:
            merged[key] = with_adapters(params[key], each)
    return merged
