"""Compute BERT's encoder for any kind of array.

The plaintext reference and CrypTen's parties run the same lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

HEADS = 12
SHIFT = 5.0  # the shift of 2Quad
EPSILON = 1e-12


class Functions(Protocol):
    """The functions that differ between kinds of arrays, and between MPCFormer and BERT itself."""

    def permute(self, x: Any, *axes: int) -> Any:
        """Return the array with its axes in this order."""

    def gelu(self, x: Any) -> Any: ...

    def softmax(self, x: Any) -> Any:
        """Apply softmax along the last axis."""

    def normalise(self, x: Any) -> Any:
        """Return (x - mean) / sqrt(variance + EPSILON) along the last axis."""


class Plain:
    """Quad, 2Quad and LayerNorm in NumPy, without secrets."""

    def permute(self, x: Any, *axes: int) -> Any:
        return np.transpose(x, axes)

    def gelu(self, x: Any) -> Any:
        return 0.125 * x * x + 0.25 * x + 0.5

    def softmax(self, x: Any) -> Any:
        quad = (x + SHIFT) ** 2
        return quad / quad.sum(-1, keepdims=True)

    def normalise(self, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)


def encode(weights: Mapping[str, Any], hidden: Any, functions: Functions, heads: int = HEADS) -> Any:
    """Return the hidden states [sequence, width] after all layers.

    `weights` has the arrays by their path in Flax's parameters.
    """
    for layer in range(1 + max(int(name.split("/")[1]) for name in weights)):
        prefix = f"layer/{layer}/"
        inside = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
        attended = _attention(inside, hidden, functions, heads)
        hidden = _output(inside, "attention/output", attended, hidden, functions)
        wide = functions.gelu(_dense(inside, "intermediate/dense", hidden))
        hidden = _output(inside, "output", wide, hidden, functions)
    return hidden


def _dense(weights: Mapping[str, Any], name: str, x: Any) -> Any:
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def _output(weights: Mapping[str, Any], name: str, x: Any, residual: Any, functions: Functions) -> Any:
    normalised = functions.normalise(_dense(weights, f"{name}/dense", x) + residual)
    return normalised * weights[f"{name}/LayerNorm/scale"] + weights[f"{name}/LayerNorm/bias"]


def _attention(weights: Mapping[str, Any], hidden: Any, functions: Functions, heads: int) -> Any:
    sequence, width = hidden.shape
    query, key, value = (
        _dense(weights, f"attention/self/{name}", hidden).reshape(sequence, heads, width // heads)
        for name in ("query", "key", "value")
    )
    scores = functions.permute(query, 1, 0, 2) @ functions.permute(key, 1, 2, 0)
    weighted = functions.softmax(scores / (width // heads) ** 0.5) @ functions.permute(value, 1, 0, 2)
    return functions.permute(weighted, 1, 0, 2).reshape(sequence, width)
