"""Write convolutions of secret values as rearrangements and one product of matrices.

This is a part of fuse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ditto_spu import ir
from ditto_spu.ir.arithmetic import kind
from ditto_spu.passes.analysis.visibility import visibility


def rewrite_convolutions(module: ir.Module, public: Sequence[bool]) -> None:
    """Rewrite every convolution of @main that reads a secret value, in place.

    Only the product costs anything. Windows are gathered locally, and windows that do not overlap (stride =
    size, as in ViT's patches) are only reshaped. Convolutions of integers are left to SPU.
    public: whether each argument of @main is public.
    """
    secret = visibility(module, public)
    for op in list(ir.walk(ir.main(module))):
        if kind(op) != "convolution" or not any(secret.get(each, True) for each in op.operands):
            continue
        if ir.is_float(op.results[0]):
            ir.rewrite(op, partial(_product, numbers=_read(op)))


def _read(op: ir.Op) -> dict[str, Any]:
    """Return the numbers of a convolution, with defaults where JAX leaves one out."""
    rank = len(ir.shape(op.operands[0])) - 2
    padding = op.attributes["padding"] if "padding" in op.attributes else np.zeros((rank, 2), np.int64)
    parts = {
        side: tuple(
            ir.dimensions(op, "convolution", f"{side}_{part}")
            for part in ("batch_dimension", "feature_dimension", "spatial_dimensions")
        )
        for side in ("input", "output")
    }
    parts["kernel"] = tuple(
        ir.dimensions(op, "convolution", f"kernel_{part}")
        for part in ("input_feature_dimension", "output_feature_dimension", "spatial_dimensions")
    )
    return parts | {
        "strides": tuple(ir.attribute(op, "window_strides", (1,) * rank)),
        "padding": np.array(padding).tolist(),
        "stretch": tuple(ir.attribute(op, "lhs_dilation", (1,) * rank)),
        "spread": tuple(ir.attribute(op, "rhs_dilation", (1,) * rank)),
        "groups": ir.attribute(op, "feature_group_count", 1),
        "batch_groups": ir.attribute(op, "batch_group_count", 1),
        "reversed": tuple(ir.attribute(op, "window_reversal", (False,) * rank)),
    }


def _product(x: Array, w: Array, numbers: dict[str, Any]) -> Array:
    """Compute the convolution as windows times kernels.

    The windows have the shape [batch, places, group, terms], and the kernels [terms, group, features].
    """
    (batch,), (feature,), spatial = numbers["input"]
    (terms,), (features,), sizes_at = numbers["kernel"]
    x = jnp.transpose(x, (batch, *spatial, feature))
    w = jnp.transpose(w, (*sizes_at, terms, features))
    groups, batch_groups = numbers["groups"], numbers["batch_groups"]
    if batch_groups > 1:
        # A group of images, which only gradients have, is a group of features of fewer images.
        x = jnp.reshape(x, (batch_groups, x.shape[0] // batch_groups, *x.shape[1:]))
        x = jnp.moveaxis(x, 0, -2)
        x, groups = jnp.reshape(x, (*x.shape[:-2], -1)), batch_groups
    if any(numbers["reversed"]):
        w = jnp.flip(w, [axis for axis, turned in enumerate(numbers["reversed"]) if turned])
    margins = [
        (low, high, step - 1)
        for (low, high), step in zip(numbers["padding"], numbers["stretch"], strict=True)
    ]
    if any(margin != (0, 0, 0) for margin in margins):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)])
    sizes = w.shape[: len(spatial)]
    windows, places = _windows(x, sizes, numbers["strides"], numbers["spread"])
    each = w.shape[-1] // groups
    if groups == 1:
        result = jnp.reshape(windows, (-1, math.prod(sizes) * w.shape[-2])) @ jnp.reshape(w, (-1, each))
    else:
        inner = jnp.reshape(windows, (-1, math.prod(sizes), groups, w.shape[-2]))
        kernels = jnp.reshape(w, (math.prod(sizes), w.shape[-2], groups, each))
        result = jnp.einsum("pkgi,kigo->pgo", inner, kernels)
    result = jnp.reshape(result, (x.shape[0], *places, groups * each))
    (batch,), (feature,), spatial = numbers["output"]
    return jnp.transpose(result, [int(place) for place in np.argsort((batch, *spatial, feature))])


def _windows(
    x: Array, sizes: Sequence[int], strides: Sequence[int], spread: Sequence[int]
) -> tuple[Array, list[int]]:
    """Return windows [batch, places..., sizes..., features], and the number of places per direction."""
    places, rank = [], len(sizes)
    apart = all(
        size == stride and not step > 1 for size, stride, step in zip(sizes, strides, spread, strict=True)
    )
    for axis, (size, stride, step) in enumerate(zip(sizes, strides, spread, strict=True)):
        length = x.shape[1 + 2 * axis]
        places.append((length - (size - 1) * step - 1) // stride + 1)
        if apart:
            x = lax.slice_in_dim(x, 0, places[-1] * stride, axis=1 + 2 * axis)
            x = jnp.reshape(x, (*x.shape[: 1 + 2 * axis], places[-1], size, *x.shape[2 + 2 * axis :]))
        else:
            index = np.arange(places[-1])[:, None] * stride + np.arange(size)[None] * step
            x = jnp.take(x, index, axis=1 + 2 * axis, mode="clip")
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return jnp.transpose(x, order), places
