"""Fold scale and shift of a LayerNorm into the products that read it, where one owner has both.

(x̂ γ + β) W = x̂ (γ W) + β W. The owner computes γ W and β W, and the parties normalise with public ones and
zeros. This takes 36 bytes per element instead of 60.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ditto_spu import ir
from ditto_spu.frontend.owners import PUBLIC, SHARED
from ditto_spu.ops.layer_norm import LAYER_NORM, layer_norm

Levels = Callable[[], Callable[[ir.Value], str]]


def fold_norms(module: ir.Module, levels: Levels) -> None:
    """Rewrite @main in place, wherever only products with weights of that owner read a LayerNorm.

    Weights that another operation reads too stay as they are, because they would be shared twice.
    """
    operations = ir.ops(ir.body(ir.main(module)))
    for op in [each for each in operations if ir.composite_name(each) == LAYER_NORM.composite]:
        if _folds(op, levels()):
            _fold(module, op)


def _folds(op: ir.Op, level: Callable[[ir.Value], str]) -> bool:
    x, gamma, beta = op.operands
    owner, users = level(gamma), ir.users(op.results[0])
    return (
        level(x) == SHARED
        and owner not in (PUBLIC, SHARED)
        and level(beta) in (PUBLIC, owner)
        and bool(users)
        and all(
            _is_product(each, op.results[0]) and _is_own(each.operands[1], owner, level) for each in users
        )
    )


def _is_product(user: ir.Op, normed: ir.Value) -> bool:
    """Tell whether an operation multiplies the rows of `normed` by a matrix."""
    return (
        user.name == "stablehlo.dot_general"
        and user.operands[0] == normed
        and user.operands[1] != normed
        and not ir.dimensions(user, "dot_general", "lhs_batching_dimensions")
        and _contracting(user, "lhs") == (len(ir.shape(normed)) - 1,)
        and ir.element(user.operands[1]) == ir.element(normed)
    )


def _contracting(dot: ir.Op, side: str) -> tuple[int, ...]:
    return ir.dimensions(dot, "dot_general", f"{side}_contracting_dimensions")


def _is_own(weight: ir.Value, owner: str, level: Callable[[ir.Value], str]) -> bool:
    """Tell whether an owner has these weights, and no other operation reads them or their sources."""
    if level(weight) != owner or len(ir.users(weight)) != 1:
        return False
    op = ir.define(weight)
    return op is None or all(_is_own(each, owner, level) for each in op.operands if level(each) == owner)


def _fold(module: ir.Module, op: ir.Op) -> None:
    x, gamma, beta = op.operands
    size, dtype, attributes = ir.shape(gamma), ir.dtype(gamma), ir.composite_attributes(op)
    plain = ir.emit(lambda: (jnp.ones(size, dtype), jnp.zeros(size, dtype)), [], op, op.location)
    meaning = partial(layer_norm, **attributes)
    normed = ir.composite(module, LAYER_NORM.composite, meaning, [x, *plain], attributes, op, op.location)
    for user in ir.users(op.results[0]):
        (along,) = _contracting(user, "rhs")
        rest = [normed, user.operands[1], gamma, beta]
        (result,) = ir.emit(partial(_product, along=along), rest, user, user.location)
        ir.replace_all_uses(user.results[0], result)
        user.erase()
    op.erase()


def _product(x: jax.Array, w: jax.Array, gamma: jax.Array, beta: jax.Array, along: int) -> jax.Array:
    scaled = w * jnp.expand_dims(gamma, [d for d in range(w.ndim) if d != along])
    shift = lax.dot_general(beta, w, (((0,), (along,)), ((), ())))
    return lax.dot_general(x, scaled, (((x.ndim - 1,), (along,)), ((), ()))) + shift
