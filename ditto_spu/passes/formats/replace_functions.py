"""Let a composite mean what its approximation computes, where that is another function (Quad, 2Quad, PUMA).

The emulated program then shows what such a replacement costs in accuracy, and distillation trains through it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from ditto_spu import ir
from ditto_spu.ops import puma_formulas


def quad(x: jax.Array, *, approximate: str) -> jax.Array:
    """MPCFormer's GeLU, 0.125 x^2 + 0.25 x + 0.5."""
    del approximate
    return 0.125 * x * x + 0.25 * x + 0.5


def two_quad(x: jax.Array, mask: jax.Array | None = None, *, dim: int, scale: float) -> jax.Array:
    """MPCFormer's softmax, (x + 5)^2 over its sum."""
    return _normalised(jnp.square(scale * x + 5), mask, dim)


def two_relu(x: jax.Array, mask: jax.Array | None = None, *, dim: int, scale: float) -> jax.Array:
    """MPCFormer's softmax with relu(x) + epsilon / n."""
    return _normalised(jnp.maximum(scale * x, 0) + EPSILON / x.shape[dim], mask, dim)


EPSILON = 0.01


def _normalised(values: jax.Array, mask: jax.Array | None, dim: int) -> jax.Array:
    if mask is not None:
        kept = jnp.where(mask, values, 0.0)
        values = jnp.where(mask.any(axis=dim, keepdims=True), kept, 1.0)
    return values / values.sum(axis=dim, keepdims=True)


MEANINGS: dict[tuple[str, str], Callable[..., jax.Array]] = {
    ("ditto.gelu", "quad"): quad,
    ("ditto.gelu", "puma"): puma_formulas.gelu,
    ("ditto.softmax", "puma"): puma_formulas.softmax,
    ("ditto.softmax", "2quad"): two_quad,
    ("ditto.softmax", "2relu"): two_relu,
}


def approximate(module: ir.Module) -> ir.Module:
    """A copy of the assigned module with the decompositions of replaced functions exchanged."""
    module = ir.clone(module)
    for op in ir.ops(ir.body(ir.main(module)))[:-1]:
        name = ir.composite_name(op)
        meaning = MEANINGS.get((name, ir.attribute(op, "ditto.approx", "")))
        if meaning is None:
            continue
        attributes = ir.composite_attributes(op)
        result = ir.composite(
            module, name, partial(meaning, **attributes), list(op.operands), attributes, op, op.location
        )
        replacement = ir.define(result)
        assert replacement is not None
        for each in list(op.attributes):
            if each.name.startswith("ditto."):
                ir.set_string(replacement, each.name, ir.attribute(op, each.name))
        ir.replace_all_uses(op.results[0], result)
        op.erase()
    ir.run_passes(module, "symbol-dce")
    ir.verify(module)
    return module
