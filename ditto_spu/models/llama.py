"""Build Llama-style decoders.

They have RMSNorm, SiLU gates, rotary positions, grouped-query attention and a language head.
"""

from __future__ import annotations

from ditto_spu.models.own import OwnModel

# These are the sizes of TinyLlama-1.1B, where 32 query heads share 4 key heads.
SIZES = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 2048,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "intermediate_size": 5632,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
}
SMALL = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}

FULL = OwnModel(SIZES, 32, prompt=32)
LAYER = OwnModel(SIZES | {"num_hidden_layers": 1, "vocab_size": 1000}, 32)
TINY = OwnModel(SMALL, 8, rows=2, padded=3)
