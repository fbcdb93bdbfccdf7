"""The PUMA baseline: its approximations on stock SPU at 64 bits, from the same user function.

Source: Dong et al., PUMA: Secure Inference of LLaMA-7B in Five Minutes, arXiv 2307.12533.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from ditto_spu import ir
from ditto_spu.algebra import close, kind, splat
from ditto_spu.frontend import trace
from ditto_spu.passes.fuse import fuse
from ditto_spu.passes.visibility import visibility
from ditto_spu.peers.stock import StockResult, run_stock

# Far below every score, yet small enough that SPU's products with it do not leave Z_2^64 at 18 fraction bits.
MASKED = -20_000.0


def gelu(x: Array, *, approximate: str) -> Array:
    """Polynomials on [-4, -1.95) and [-1.95, 3], 0 below, x above, for both forms. Error: 0.0195 at 3."""
    del approximate
    below_4, below_2, above_3 = x < -4.0, x < -1.95, x > 3.0
    square = x * x
    cube = square * x
    outer = _polynomial(
        (cube, square, x),
        (-0.011034134030615728, -0.11807612951181953, -0.42226581151983866),
        -0.5054031199708174,
    )
    inner = _polynomial(
        (cube * cube, square * square, square, x),
        (0.0018067462606141187, -0.037688200365904236, 0.3603292692789629, 0.5),
        0.008526321541038084,
    )
    is_outer = jnp.logical_xor(below_4, below_2)
    is_inner = jnp.logical_not(jnp.logical_or(below_2, above_3))
    return _chosen((above_3, x), (is_outer, outer), (is_inner, inner))


def silu(x: Array) -> Array:
    """Polynomials on [-8, -4) and [-4, 4], 0 below, x above."""
    below_8, below_4, above_4 = x < -8.0, x < -4.0, x > 4.0
    square = x * x
    fourth = square * square
    outer = _polynomial((square, x), (-0.0055465625580307, -0.0819767021525476), -0.3067541139982155)
    inner = _polynomial(
        (square * fourth, fourth, square, x),
        (0.0002743776353465, -0.011113046708173, 0.2281430841728270, 0.5),
        0.0085064025895951,
    )
    is_outer = jnp.logical_xor(below_8, below_4)
    is_inner = jnp.logical_not(jnp.logical_or(below_4, above_4))
    return _chosen((above_4, x), (is_outer, outer), (is_inner, inner))


def softmax(x: Array, mask: Array | None = None, *, dim: int, scale: float) -> Array:
    """exp is (1 + x/32)^32 above -14, else 0, of x minus its maximum; one reciprocal a row. Error: 0.0086."""
    if scale != 1.0:
        x = x * jnp.asarray(scale, x.dtype)
    if mask is not None:
        x = jnp.where(mask, x, jnp.asarray(MASKED, x.dtype))
    x = x - jnp.max(x, axis=dim, keepdims=True)
    near = x > -14.0
    power = 1.0 + x * (1.0 / 32.0)
    for _ in range(5):
        power = power * power
    e = jnp.where(near, power, 0.0)
    return e * (1.0 / jnp.sum(e, axis=dim, keepdims=True))


def layer_norm(x: Array, gamma: Array, beta: Array, *, dim: int, eps: float) -> Array:
    """Centred, one reciprocal square root a row, multiplied."""
    del dim
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + jnp.asarray(eps, x.dtype)) * gamma + beta


def embedding(table: Array, ids: Array) -> Array:
    """The one-hot vectors of the ids times the table."""
    return jax.nn.one_hot(ids, table.shape[0], dtype=table.dtype) @ table


def public_embedding(table: Array, ids: Array) -> Array:
    """Rows at public ids are taken without any protocol."""
    return jnp.take(table, ids, axis=0, mode="clip")


def _polynomial(powers: Sequence[Array], coefficients: Sequence[float], constant: float) -> Array:
    terms = [power * factor for power, factor in zip(powers, coefficients, strict=True)]
    return sum(terms[1:], terms[0]) + constant


def _chosen(*branches: tuple[Array, Array]) -> Array:
    """The sum of the values whose condition holds; a boolean times a number needs no truncation on SPU."""
    terms = [condition.astype(value.dtype) * value for condition, value in branches]
    return sum(terms[1:], terms[0])


DECOMPOSITIONS: Mapping[str, Callable[..., Array]] = {
    "ditto.gelu": gelu,
    "ditto.softmax": softmax,
    "ditto.layer_norm": layer_norm,
    "ditto.embedding": embedding,
}


def puma_module(module: ir.Module, public: Sequence[bool]) -> ir.Module:
    """A copy of a fused module with every composite, and x * logistic(x), written as PUMA computes it."""
    flat = ir.clone(module)
    secret = visibility(flat, public)
    for op in list(ir.walk(ir.main(flat))):
        meaning, operands, attributes = _replacement(op, secret)
        if meaning is not None:
            (value,) = ir.emit(lambda *xs, f=meaning, a=attributes: f(*xs, **a), operands, op, op.location)
            ir.replace_all_uses(op.results[0], value)
            op.erase()
    ir.run_passes(flat, "canonicalize,cse,symbol-dce")
    ir.erase_dead(ir.body(ir.main(flat)))
    ir.verify(flat)
    return flat


def _replacement(
    op: ir.Op, secret: Mapping[ir.Value, bool]
) -> tuple[Callable[..., Array] | None, list[ir.Value], dict[str, Any]]:
    name = ir.composite_name(op)
    if name in DECOMPOSITIONS:
        shown = name == "ditto.embedding" and not secret[op.operands[1]]
        meaning = public_embedding if shown else DECOMPOSITIONS[name]
        return meaning, list(op.operands), ir.composite_attributes(op)
    if op.name == "stablehlo.multiply" and secret.get(op.results[0], False):
        for one, other in (op.operands, tuple(op.operands)[::-1]):
            if _logistic_of(one) == other:
                return silu, [other], {}
    return None, [], {}


def _logistic_of(value: ir.Value) -> ir.Value | None:
    """x, if `value` is 1 / (1 + exp(-x)), which is what jax writes for logistic(x)."""
    for wanted in ("divide", "add", "exponential", "negate"):
        op = ir.define(value)
        if op is not None and kind(op) == "logistic" and wanted == "divide":
            return op.operands[0]
        if op is None or kind(op) != wanted:
            return None
        ones = [close(splat(each), 1.0) for each in op.operands]
        if (wanted == "divide" and not ones[0]) or (wanted == "add" and not any(ones)):
            return None
        value = op.operands[ones.index(False)] if False in ones else value
    return value


def run_puma(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    public: Sequence[str] = (),
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    mode: str = "threads",
) -> StockResult:
    """Run `fn(*args, **kwargs)` as PUMA does on three parties; `.outputs` is the pytree that `fn` returns.

    mode: "threads" of this process, or "processes" that talk over the loopback interface.
    """
    traced = trace(fn, args, kwargs, static_argnums, static_argnames, public)
    module = puma_module(fuse(ir.parse(traced.module_text), traced.public), traced.public)
    leaves = _dynamic_leaves(fn, args, kwargs or {}, static_argnums, static_argnames)
    result = run_stock(ir.text(module, debug_info=True), leaves, traced.public, mode)
    return result.with_outputs(jax.tree_util.tree_unflatten(traced.out_tree, result.outputs))


def _dynamic_leaves(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    static_argnums: int | Sequence[int],
    static_argnames: str | Iterable[str],
) -> list[Any]:
    """The arrays of a call in the order of @main's arguments."""
    nums = {static_argnums} if isinstance(static_argnums, int) else set(static_argnums)
    static = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
    nums = {num % len(args) for num in nums} if args else nums
    if nums or static:
        # As jax.jit does: a static parameter may be given by position or by name.
        names = list(inspect.signature(fn).parameters)
        static |= {names[num] for num in nums if num < len(names)}
        nums |= {index for index, name in enumerate(names) if name in static}
    dynamic = tuple(arg for index, arg in enumerate(args) if index not in nums)
    return jax.tree_util.tree_leaves((dynamic, {k: v for k, v in kwargs.items() if k not in static}))
