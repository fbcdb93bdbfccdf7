"""Write normalisations of groups of features, or of places, as layer normalisation of rows.

This is a part of fuse. GroupNorm and InstanceNorm take a mean and a variance over several dimensions, which
may be parts of a dimension. The pass follows each element to the mean and the variance that it meets. If both
are those of the group in which it lies, the groups become rows, which the pattern of LayerNorm then finds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from ditto_kernels.norm.whole_norm import serves
from ditto_spu import ir
from ditto_spu.ir.arithmetic import binary, close, kind, reduction, splat, squared
from ditto_spu.ops.layer_norm import layer_norm
from ditto_spu.ops.rsqrt import RSQRT
from ditto_spu.ops.sqrt import SQRT

Index = NDArray[np.int64]


@dataclass(frozen=True)
class _Placed:
    """A value, and the place in it that each element of the normalised tensor meets, in order."""

    value: ir.Value
    index: Index

    @property
    def op(self) -> ir.Op | None:
        return ir.define(self.value)

    def operand(self, place: int) -> _Placed:
        """Return an operand of an elementwise operation."""
        op = self.op
        assert op is not None
        return _Placed(op.operands[place], self.index)


@dataclass(frozen=True)
class _Groups:
    """The groups of x: `view` is the shape in which they lie along the dimensions `over`."""

    x: ir.Value
    view: tuple[int, ...]
    over: tuple[int, ...]

    @property
    def length(self) -> int:
        return math.prod(self.view[each] for each in self.over)

    @property
    def index(self) -> Index:
        """The group of every element of x, in order."""
        kept = [1 if place in self.over else size for place, size in enumerate(self.view)]
        return np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), self.view).ravel()

    @property
    def rows(self) -> bool:
        """Whether the groups are rows already."""
        return self.view == tuple(ir.shape(self.x)) and self.over == (len(self.view) - 1,)


def rewrite_group_norms(module: ir.Module, secret: Mapping[ir.Value, bool]) -> None:
    """Rewrite normalisations of secret tensors in @main in place."""
    for op in list(ir.walk(ir.main(module))):
        if kind(op) in ("multiply", "divide") and secret.get(op.results[0], False):
            _rewrite(op)


def _rewrite(op: ir.Op) -> None:
    orders = binary(op) if kind(op) == "multiply" else ((op.operands[0], op.operands[1]),)
    for centred, factor in orders:
        groups = _centred_groups(centred)
        if groups is None or groups.rows or not serves(groups.length, centred=True):
            continue
        found = _deviation(_Placed(factor, _all_of(centred)), groups, kind(op) == "divide")
        if found is None:
            continue
        root, eps = found
        (ones,) = ir.emit(jnp.ones_like, [root.results[0]], root, root.location)
        ir.replace_all_uses(root.results[0], ones)
        new = ir.emit(_meaning(groups, eps, kind(op)), [groups.x, factor], op, op.location)
        ir.replace_all_uses(op.results[0], new[0])
        return


def _meaning(groups: _Groups, eps: float, name: str) -> Any:
    """Return the JAX function of the normalised tensor times or over a factor."""
    kept = [place for place in range(len(groups.view)) if place not in groups.over]
    order = (*kept, *groups.over)

    def meaning(x: Array, factor: Array) -> Array:
        rows = jnp.transpose(jnp.reshape(x, groups.view), order)
        flat = jnp.reshape(rows, (-1, groups.length))
        plain = jnp.ones(groups.length, x.dtype), jnp.zeros(groups.length, x.dtype)
        normal = jnp.reshape(layer_norm(flat, *plain, dim=1, eps=eps), rows.shape)
        back = jnp.reshape(
            jnp.transpose(normal, [order.index(each) for each in range(len(order))]), factor.shape
        )
        return back * factor if name == "multiply" else back / factor

    return meaning


def _all_of(value: ir.Value) -> Index:
    return np.arange(math.prod(ir.shape(value)))


def _peel(placed: _Placed) -> _Placed:
    """Step through layout, so that the index leads to the elements before it."""
    while (op := placed.op) is not None and kind(op) in ("broadcast_in_dim", "reshape", "transpose"):
        source, shape = op.operands[0], ir.shape(op.results[0])
        before = _all_of(source).reshape(ir.shape(source))
        if kind(op) == "transpose":
            before = np.transpose(before, ir.attribute(op, "permutation"))
        elif kind(op) == "broadcast_in_dim":
            sizes = [1] * len(shape)
            for place, size in zip(ir.attribute(op, "broadcast_dimensions"), ir.shape(source), strict=True):
                sizes[place] = size
            before = np.broadcast_to(before.reshape(sizes), shape)
        placed = _Placed(source, before.ravel()[placed.index])
    return placed


def _flat(value: ir.Value) -> ir.Value:
    """Return the value before its reshapes, which leave its elements in order."""
    while kind(op := ir.define(value)) == "reshape" and op is not None:
        value = op.operands[0]
    return value


def _mean(placed: _Placed) -> _Groups | None:
    """Return the groups of a tensor if every element meets the mean of its own group, else None."""
    placed = _peel(placed)
    if placed.op is None or kind(placed.op) not in ("divide", "multiply"):
        return None
    for total, count in ((0, 1), (1, 0))[: 1 if kind(placed.op) == "divide" else 2]:
        inner, number = _peel(placed.operand(total)), splat(placed.op.operands[count])
        if reduction(inner.op) != "add" or inner.op is None or splat(inner.op.operands[1]) != 0:
            continue
        x = inner.op.operands[0]
        groups = _Groups(x, tuple(ir.shape(x)), tuple(map(int, ir.attribute(inner.op, "dimensions"))))
        size = groups.length if kind(placed.op) == "divide" else 1 / groups.length
        if close(number, size, 1e-6) and np.array_equal(inner.index, groups.index):
            return groups
    return None


def _centred_groups(value: ir.Value) -> _Groups | None:
    """Return the groups of x if the value is x less the means of its groups, else None."""
    op = ir.define(value)
    if op is None or kind(op) != "subtract" or not ir.is_float(value):
        return None
    found = _mean(_Placed(op.operands[1], _all_of(value)))
    if found is None or _flat(found.x) != _flat(op.operands[0]):
        return None
    return _Groups(op.operands[0], found.view, found.over)


def _deviation(factor: _Placed, groups: _Groups, divides: bool) -> tuple[ir.Op, float] | None:
    """Return (root, eps) if a factor of the value is one over the deviation of each element's group.

    Otherwise return None.
    root: the root or its inverse, which nothing else reads.
    """
    placed = _peel(factor)
    op = placed.op
    if op is None:
        return None
    if kind(op) == "multiply":
        for place in (0, 1):
            if len(ir.users(op.results[0])) == 1 and (
                found := _deviation(placed.operand(place), groups, divides)
            ):
                return found
        return None
    if kind(op) != (SQRT if divides else RSQRT).name or len(ir.users(op.results[0])) != 1:
        return None
    inside = _peel(placed.operand(0))
    if inside.op is None or kind(inside.op) != "add":
        return None
    for place in (0, 1):
        eps = splat(inside.op.operands[1 - place])
        if eps and eps > 0 and _is_variance(inside.operand(place), groups):
            return op, eps
    return None


def _is_variance(placed: _Placed, groups: _Groups) -> bool:
    """Tell whether every element meets the variance of its group, perhaps with 0 as a lower bound."""
    placed = _peel(placed)
    if placed.op is not None and kind(placed.op) == "maximum":
        zero = [splat(each) == 0 for each in placed.op.operands]
        placed = _peel(placed.operand(zero.index(False))) if sum(zero) == 1 else placed
    if placed.op is not None and kind(placed.op) == "subtract":
        mean = placed.operand(1)
        peeled = _peel(mean)
        inner = squared(peeled.value)
        square = None if inner is None else _mean(_Placed(inner, peeled.index))
        return (
            square is not None
            and _same(square, groups, square.x)
            and (found := _mean(placed.operand(0))) is not None
            and (whole := squared(_flat(found.x))) is not None
            and _same(found, groups, whole)
        )
    found = _mean(placed)
    inner = None if found is None else squared(_flat(found.x))
    around = None if inner is None else _centred_groups(_flat(inner))
    return found is not None and around is not None and _same(found, groups, around.x)


def _same(found: _Groups, groups: _Groups, x: ir.Value) -> bool:
    """Tell whether groups are those of another tensor with the same elements as x."""
    return _flat(x) == _flat(groups.x) and np.array_equal(found.index, groups.index)
