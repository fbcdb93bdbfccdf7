"""Build T5: an encoder, and one forward pass of the decoder, which attends to it.

The outputs are the logits of the language head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ditto_spu.models.hugging_face import HuggingFace, tokens

SMALL = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
# T5 v1.1 has a gated GeLU and a language head of its own.
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


def _inputs(sequence: int, answer: int, padded: int = 0, rows: int = 1) -> Callable[[Any], Any]:
    def make(config: Any) -> Any:
        ids, mask = tokens(sequence, padded, rows)(config)
        start = np.full((rows, 1), config.decoder_start_token_id or 0, np.int32)
        return ids, mask, np.concatenate([start, ids[:, : answer - 1]], axis=1)

    return make


def _logits(model: Any) -> Callable[..., Any]:
    def predict(params: Any, ids: Any, mask: Any, answer: Any) -> Any:
        return model(ids, attention_mask=mask, decoder_input_ids=answer, params=params).logits

    return predict


def _t5(sizes: dict[str, Any], inputs: Any) -> HuggingFace:
    sizes = {"decoder_start_token_id": 0} | sizes
    return HuggingFace("FlaxT5ForConditionalGeneration", "T5Config", sizes, inputs, _logits, public=("mask",))


BASE = _t5({}, _inputs(64, 8))  # T5Config's defaults are those of t5-small
TINY = _t5(SMALL, _inputs(8, 4, padded=3, rows=2))
GATED_TINY = _t5(SMALL | GATED, _inputs(8, 4, padded=3, rows=2))
GATED_BASE = _t5(GATED | {"d_ff": 1024, "num_layers": 8, "num_heads": 6}, _inputs(64, 8))  # t5-v1_1-small
