"""Fuse a function, and say what was found in it."""

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse


def fused(
    fn: Callable[..., Any], *args: Any, public: tuple[str, ...] = (), tolerance: float = 1e-5
) -> ir.Module:
    """Return fn fused, after a check that it gives the same result as before."""
    traced = trace(fn, args, public=public)
    module = fuse(ir.parse(traced.module_text), traced.public)
    leaves = jax.tree_util.tree_leaves(args)
    before, after = ir.evaluate(traced.module_text, leaves), ir.evaluate(module, leaves)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, rtol=tolerance, atol=tolerance)
    return module


def composites(module: ir.Module) -> list[ir.Op]:
    return [op for op in ir.walk(ir.main(module)) if ir.composite_name(op)]


def found(module: ir.Module) -> dict[str, int]:
    names = (ir.composite_name(op).removeprefix("ditto.") for op in composites(module))
    return dict(collections.Counter(names))


@dataclass(frozen=True)
class Found:
    attributes: dict[str, Any]
    shapes: list[tuple[int, ...]]


def only(module: ir.Module, name: str) -> Found:
    """Return the facts about the only composite of that name.

    It does not return the operation itself, which would not keep its module alive.
    """
    (op,) = composites(module)
    assert ir.composite_name(op) == f"ditto.{name}"
    return Found(ir.composite_attributes(op), [ir.shape(each) for each in op.operands])


def names(module: ir.Module) -> set[str]:
    return {op.name.partition(".")[2] for op in ir.walk(ir.main(module))}
