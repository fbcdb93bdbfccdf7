"""Build ViT for image classification.

Images are secret. The convolution over patches becomes one product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_spu.models.hugging_face import HuggingFace


def _image(rows: int) -> Callable[[Any], tuple[NDArray[np.float32]]]:
    def make(config: Any) -> tuple[NDArray[np.float32]]:
        shape = (rows, config.num_channels, config.image_size, config.image_size)
        return (np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32),)

    return make


def _logits(model: Any) -> Callable[..., Any]:
    def classify(params: Any, image: Any) -> Any:
        return model(image, params=params).logits

    return classify


BASE = HuggingFace(
    "FlaxViTForImageClassification", "ViTConfig", {"num_labels": 1000}, _image(1), _logits
)  # ViT-B/16 at 224 x 224
TINY = HuggingFace(
    "FlaxViTForImageClassification",
    "ViTConfig",
    {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": 16,
        "patch_size": 8,
        "num_labels": 5,
    },
    _image(2),
    _logits,
)
