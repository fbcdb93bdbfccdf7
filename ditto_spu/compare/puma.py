"""Run the baselines on stock SPU at 64 bits: with PUMA's functions, or the program of the user as it is.

Source: Dong et al., PUMA: Secure Inference of LLaMA-7B in Five Minutes, arXiv 2307.12533.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax

from ditto_spu import ir
from ditto_spu.compare.stock_spu import StockResult, run_stock
from ditto_spu.frontend.static_arguments import Signature
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
    static_argnames: str | Sequence[str] = (),
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
    static = Signature.of(static_argnums, static_argnames).bound_to(fn)
    leaves = static.leaves(args, kwargs or {})
    result = run_stock(ir.text(module, debug_info=True), leaves, traced.public, mode, network)
    return result.with_outputs(jax.tree_util.tree_unflatten(traced.out_tree, result.outputs))


def run_directly(
    fn: Callable[..., Any], args: Sequence[Any], *, public: Sequence[str] = (), mode: str = "threads"
) -> StockResult:
    """Run `fn(*args)` on stock SPU as it is, with SPU's own functions and convolutions.

    This is a fairer baseline than PUMA for convolutional models, whose windows PUMA's program gathers.
    public: as in `secure`. mode: as in `run_puma`.
    """
    traced = trace(fn, args, public=public)
    result = run_stock(traced.module_text, jax.tree_util.tree_leaves(args), traced.public, mode)
    return result.with_outputs(jax.tree_util.tree_unflatten(traced.out_tree, result.outputs))
