"""Build Llama-style decoders.

They have RMSNorm, SiLU gates, rotary positions, grouped-query attention and a language head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ditto_spu.models.hugging_face import HuggingFace, tokens

# These are the sizes of TinyLlama-1.1B, where 32 query heads share 4 key heads.
SIZES = {
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
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}


def _logits(model: Any) -> Callable[..., Any]:
    def predict(params: Any, ids: Any, mask: Any) -> Any:
        return model(ids, attention_mask=mask, params=params).logits

    return predict


def _llama(sizes: dict[str, Any], inputs: Any) -> HuggingFace:
    return HuggingFace("FlaxLlamaForCausalLM", "LlamaConfig", sizes, inputs, _logits, public=("mask",))


FULL = _llama(SIZES, tokens(32))
LAYER = _llama(SIZES | {"num_hidden_layers": 1, "vocab_size": 1000}, tokens(32))
TINY = _llama(SMALL, tokens(8, padded=3, rows=2))
