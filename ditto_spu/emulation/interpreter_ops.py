"""The operations of StableHLO and chlo as JAX operations, for the interpreter.

An entry of `TABLE` is called with an operation, which has the attributes and the type of the result, and with
its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, dtypes, lax

from ditto_spu import ir
from ditto_spu.errors import UnsupportedOpError

Meaning = Callable[..., Array]


def _kind(op: ir.Op) -> np.dtype[Any]:
    """Return the dtype of the result. It has 64 bits only if JAX's flag allows that."""
    return dtypes.canonicalize_dtype(ir.dtype(op.results[0]))


def _plain(function: Callable[..., Array]) -> Meaning:
    """Return the entry of an operation without attributes."""
    return lambda op, *operands: function(*operands)


def _compare(op: ir.Op, left: Array, right: Array) -> Array:
    directions = {"EQ": lax.eq, "NE": lax.ne, "GE": lax.ge, "GT": lax.gt, "LE": lax.le, "LT": lax.lt}
    return directions[ir.comparison(op)](left, right)


def _dot_general(op: ir.Op, left: Array, right: Array) -> Array:
    def part(name: str) -> tuple[int, ...]:
        return ir.dimensions(op, "dot_general", name)

    contracting = (part("lhs_contracting_dimensions"), part("rhs_contracting_dimensions"))
    batching = (part("lhs_batching_dimensions"), part("rhs_batching_dimensions"))
    return lax.dot_general(left, right, (contracting, batching), preferred_element_type=_kind(op))


def _gather(op: ir.Op, operand: Array, indices: Array) -> Array:
    def part(name: str) -> tuple[int, ...]:
        return ir.dimensions(op, "gather", name)

    (last,) = part("index_vector_dim")
    indices = indices[..., None] if last == indices.ndim else jnp.moveaxis(indices, last, -1)
    # Batching dimensions are newer than this version of JAX, which emits none.
    numbers = lax.GatherDimensionNumbers(
        offset_dims=part("offset_dims"),
        collapsed_slice_dims=part("collapsed_slice_dims"),
        start_index_map=part("start_index_map"),
    )
    return lax.gather(operand, indices, numbers, ir.attribute(op, "slice_sizes"), mode="clip")


_REDUCTIONS: dict[str, tuple[Callable[..., Array], Callable[[Array, Array], Array]]] = {
    "stablehlo.add": (jnp.sum, jnp.add),
    "stablehlo.multiply": (jnp.prod, jnp.multiply),
    "stablehlo.maximum": (jnp.max, jnp.maximum),
    "stablehlo.minimum": (jnp.min, jnp.minimum),
    "stablehlo.and": (jnp.all, jnp.logical_and),
    "stablehlo.or": (jnp.any, jnp.logical_or),
}


def _reduce(op: ir.Op, operand: Array, initial: Array, *more: Array) -> Array:
    inside = [each.name for each in ir.ops(op.regions[0].blocks[0])]
    whole = not inside[:-1] or inside[0] not in _REDUCTIONS or len(inside) != 2
    logical = inside[0] in ("stablehlo.and", "stablehlo.or") and operand.dtype != bool
    if more or whole or logical:
        raise UnsupportedOpError(
            f"a reduction by {', '.join(inside[:-1])} ({ir.source_of(op)}) cannot be differentiated here: "
            "only sums, products, maxima, minima, and `all` and `any` of booleans can"
        )
    reduce, join = _REDUCTIONS[inside[0]]
    axes = ir.attribute(op, "dimensions")
    return join(reduce(operand, axis=axes).astype(operand.dtype), initial)


def _broadcast(op: ir.Op, operand: Array) -> Array:
    return lax.broadcast_in_dim(operand, ir.shape(op.results[0]), ir.attribute(op, "broadcast_dimensions"))


def _slice(op: ir.Op, operand: Array) -> Array:
    return lax.slice(
        operand, *(ir.attribute(op, name) for name in ("start_indices", "limit_indices", "strides"))
    )


def _pad(op: ir.Op, operand: Array, value: Array) -> Array:
    names = ("edge_padding_low", "edge_padding_high", "interior_padding")
    return lax.pad(operand, value, tuple(zip(*(ir.attribute(op, name) for name in names), strict=True)))


def _clamp(op: ir.Op, low: Array, x: Array, high: Array) -> Array:
    return lax.clamp(low, x, high)


def _dynamic_slice(op: ir.Op, operand: Array, *starts: Array) -> Array:
    return lax.dynamic_slice(operand, starts, ir.attribute(op, "slice_sizes"))


def _dynamic_update_slice(op: ir.Op, operand: Array, update: Array, *starts: Array) -> Array:
    return lax.dynamic_update_slice(operand, update, starts)


def _concatenate(op: ir.Op, *operands: Array) -> Array:
    return lax.concatenate(operands, ir.attribute(op, "dimension"))


TABLE: dict[str, Meaning] = {
    "chlo.asin": _plain(lax.asin),
    "chlo.atan": _plain(lax.atan),
    "chlo.erf": _plain(lax.erf),
    "chlo.erf_inv": _plain(lax.erf_inv),
    "chlo.erfc": _plain(lax.erfc),
    "chlo.square": _plain(jnp.square),
    "chlo.sinh": _plain(jnp.sinh),
    "chlo.cosh": _plain(jnp.cosh),
    "stablehlo.abs": _plain(lax.abs),
    "stablehlo.add": _plain(lax.add),
    "stablehlo.and": _plain(lax.bitwise_and),
    "stablehlo.atan2": _plain(lax.atan2),
    "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.cbrt": _plain(lax.cbrt),
    "stablehlo.ceil": _plain(lax.ceil),
    "stablehlo.clamp": _clamp,
    "stablehlo.compare": _compare,
    "stablehlo.concatenate": _concatenate,
    "stablehlo.constant": lambda op: jnp.asarray(ir.constant_value(op), _kind(op)),
    "stablehlo.convert": lambda op, x: lax.convert_element_type(x, _kind(op)),
    "stablehlo.cosine": _plain(lax.cos),
    "stablehlo.divide": _plain(lax.div),
    "stablehlo.dot_general": _dot_general,
    "stablehlo.dynamic_slice": _dynamic_slice,
    "stablehlo.dynamic_update_slice": _dynamic_update_slice,
    "stablehlo.exponential": _plain(lax.exp),
    "stablehlo.exponential_minus_one": _plain(lax.expm1),
    "stablehlo.floor": _plain(lax.floor),
    "stablehlo.gather": _gather,
    "stablehlo.iota": lambda op: lax.broadcasted_iota(
        _kind(op), ir.shape(op.results[0]), ir.attribute(op, "iota_dimension")
    ),
    "stablehlo.is_finite": _plain(lax.is_finite),
    "stablehlo.log": _plain(lax.log),
    "stablehlo.log_plus_one": _plain(lax.log1p),
    "stablehlo.logistic": _plain(lax.logistic),
    "stablehlo.maximum": _plain(lax.max),
    "stablehlo.minimum": _plain(lax.min),
    "stablehlo.multiply": _plain(lax.mul),
    "stablehlo.negate": _plain(lax.neg),
    "stablehlo.not": _plain(lax.bitwise_not),
    "stablehlo.or": _plain(lax.bitwise_or),
    "stablehlo.pad": _pad,
    "stablehlo.power": _plain(lax.pow),
    "stablehlo.reduce": _reduce,
    "stablehlo.remainder": _plain(lax.rem),
    "stablehlo.reshape": lambda op, x: lax.reshape(x, ir.shape(op.results[0])),
    "stablehlo.reverse": lambda op, x: lax.rev(x, ir.attribute(op, "dimensions")),
    "stablehlo.round_nearest_even": _plain(jnp.round),
    "stablehlo.rsqrt": _plain(lax.rsqrt),
    "stablehlo.select": _plain(lax.select),
    "stablehlo.sign": _plain(lax.sign),
    "stablehlo.sine": _plain(lax.sin),
    "stablehlo.slice": _slice,
    "stablehlo.sqrt": _plain(lax.sqrt),
    "stablehlo.subtract": _plain(lax.sub),
    "stablehlo.tanh": _plain(lax.tanh),
    "stablehlo.transpose": lambda op, x: lax.transpose(x, ir.attribute(op, "permutation")),
    "stablehlo.xor": _plain(lax.bitwise_xor),
}
