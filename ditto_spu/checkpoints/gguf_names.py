"""List what GGUF calls the settings and tensors of each family, and what config.json and torch call them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One architecture of GGUF.

    model_type: the name of the family in config.json.
    settings: from the key without its architecture to the name in config.json.
    whole: names of tensors outside of layers. layer: those of layer N, `blk.N.` left out; {n} is the layer.
    transposed: tensors that torch stores the other way round than a linear layer.
    rotated: tensors whose rows llama.cpp reorders for its own form of rotary positions.
    """

    model_type: str
    settings: dict[str, str]
    whole: dict[str, str]
    layer: dict[str, str]
    transposed: frozenset[str] = frozenset()
    rotated: frozenset[str] = frozenset()


_DECODER_SETTINGS = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.key_length": "head_dim",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
    "rope.dimension_count": "rotary_width",
}
_DECODER_WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_DECODER_LAYER = {
    "attn_norm": "model.layers.{n}.input_layernorm",
    "attn_q": "model.layers.{n}.self_attn.q_proj",
    "attn_k": "model.layers.{n}.self_attn.k_proj",
    "attn_v": "model.layers.{n}.self_attn.v_proj",
    "attn_output": "model.layers.{n}.self_attn.o_proj",
    "ffn_norm": "model.layers.{n}.post_attention_layernorm",
    "ffn_gate": "model.layers.{n}.mlp.gate_proj",
    "ffn_up": "model.layers.{n}.mlp.up_proj",
    "ffn_down": "model.layers.{n}.mlp.down_proj",
}

FAMILIES = {
    "llama": Family(
        "llama",
        _DECODER_SETTINGS,
        _DECODER_WHOLE,
        _DECODER_LAYER,
        rotated=frozenset({"attn_q", "attn_k"}),
    ),
    "qwen2": Family("qwen2", _DECODER_SETTINGS, _DECODER_WHOLE, _DECODER_LAYER),
    "gpt2": Family(
        "gpt2",
        {
            "context_length": "n_positions",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "embedding_length": "n_embd",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        {
            "attn_norm": "transformer.h.{n}.ln_1",
            "attn_qkv": "transformer.h.{n}.attn.c_attn",
            "attn_output": "transformer.h.{n}.attn.c_proj",
            "ffn_norm": "transformer.h.{n}.ln_2",
            "ffn_up": "transformer.h.{n}.mlp.c_fc",
            "ffn_down": "transformer.h.{n}.mlp.c_proj",
        },
        transposed=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
    ),
    "bert": Family(
        "bert",
        {
            "context_length": "max_position_embeddings",
            "block_count": "num_hidden_layers",
            "feed_forward_length": "intermediate_size",
            "embedding_length": "hidden_size",
            "attention.head_count": "num_attention_heads",
            "attention.layer_norm_epsilon": "layer_norm_eps",
        },
        {
            "token_embd": "embeddings.word_embeddings",
            "position_embd": "embeddings.position_embeddings",
            "token_types": "embeddings.token_type_embeddings",
            "token_embd_norm": "embeddings.LayerNorm",
        },
        {
            "attn_q": "encoder.layer.{n}.attention.self.query",
            "attn_k": "encoder.layer.{n}.attention.self.key",
            "attn_v": "encoder.layer.{n}.attention.self.value",
            "attn_output": "encoder.layer.{n}.attention.output.dense",
            "attn_output_norm": "encoder.layer.{n}.attention.output.LayerNorm",
            "ffn_up": "encoder.layer.{n}.intermediate.dense",
            "ffn_down": "encoder.layer.{n}.output.dense",
            "layer_output_norm": "encoder.layer.{n}.output.LayerNorm",
        },
    ),
}
