"""Run the PUMA baseline: its approximations on stock SPU at 64 bits, from the same user function.

Source: Dong et al., PUMA: Secure Inference of LLaMA-7B in Five Minutes, arXiv 2307.12533.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from ditto_spu import ir
from ditto_spu.compare.stock_spu import StockResult, run_stock
from ditto_spu.frontend.trace import trace
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.ops import find
from ditto_spu.passes.analysis.visibility import visibility
from ditto_spu.passes.fuse.fuse import fuse


def puma_module(module: ir.Module, public: Sequence[bool]) -> ir.Module:
    """Return a copy of a fused module in which every composite is written as PUMA computes it."""
    flat = ir.clone(module)
    secret = visibility(flat, public)
    for op in list(ir.walk(ir.main(flat))):
        record = find(op)
        if record is not None and record.puma is not None and ir.composite_name(op):
            meaning = record.puma
            if record.puma_public is not None and not secret[op.operands[1]]:
                meaning = record.puma_public
            attributes = ir.composite_attributes(op)
            ir.rewrite(op, partial(meaning, **attributes))
    ir.run_passes(flat, "canonicalize,cse,symbol-dce")
    ir.erase_dead(ir.body(ir.main(flat)))
    ir.verify(flat)
    return flat


def run_puma(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    public: Sequence[str] = (),
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    mode: str = "threads",
    network: Network = LOOPBACK,
) -> StockResult:
    """Run `fn(*args, **kwargs)` as PUMA does on three parties. `.outputs` is the pytree that `fn` returns.

    public, static_argnums, static_argnames: as in `secure`.
    mode: "threads" of this process, or "processes", which talk over the network.
    network: loopback or an emulated network, between processes.
    """
    traced = trace(fn, args, kwargs, static_argnums, static_argnames, public)
    module = puma_module(fuse(ir.parse(traced.module_text), traced.public), traced.public)
    leaves = _dynamic_leaves(fn, args, kwargs or {}, static_argnums, static_argnames)
    result = run_stock(ir.text(module, debug_info=True), leaves, traced.public, mode, network)
    return result.with_outputs(jax.tree_util.tree_unflatten(traced.out_tree, result.outputs))


def _dynamic_leaves(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    static_argnums: int | Sequence[int],
    static_argnames: str | Iterable[str],
) -> list[Any]:
    """Return the arrays of a call in the order of @main's arguments."""
    nums = {static_argnums} if isinstance(static_argnums, int) else set(static_argnums)
    static = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
    nums = {num % len(args) for num in nums} if args else nums
    if nums or static:
        # As in jax.jit, a static parameter may be given by position or by name.
        names = list(inspect.signature(fn).parameters)
        static |= {names[num] for num in nums if num < len(names)}
        nums |= {index for index, name in enumerate(names) if name in static}
    dynamic = tuple(arg for index, arg in enumerate(args) if index not in nums)
    return jax.tree_util.tree_leaves((dynamic, {k: v for k, v in kwargs.items() if k not in static}))
