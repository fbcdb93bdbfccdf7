"""Bound products of matrices by norms: of columns that are known, and of rows that a function normalised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ditto_spu.ir.bindings import Op, Value
from ditto_spu.ir.run import constant_value
from ditto_spu.ir.values import attribute, define, dimensions, shape

Interval = tuple[float, float]
At = Callable[[Value], Interval]
EVERYTHING: Interval = (-math.inf, math.inf)
# Formats round weights. Bounds by norms are so narrow that they need room for it.
_LEEWAY = 1 + 2.0**-5
_SAME_PLACES = ("convert", "negate", "abs", "optimization_barrier", "slice")


@dataclass(frozen=True)
class Rows:
    """Bounds on the vectors that lie along one dimension of a value, as kernels round them.

    dim: the dimension.
    length: at most the root of the sum of squares of a vector's elements.
    total: at most the sum of their magnitudes.
    """

    dim: int
    length: float
    total: float

    @property
    def interval(self) -> Interval:
        """The interval in which every element lies."""
        most = min(self.length, self.total)
        return -most, most


def meeting(one: Interval, other: Interval) -> Interval:
    """Return what lies in both intervals."""
    return max(one[0], other[0]), min(one[1], other[1])


def kept_rows(op: Op, rows: Rows, keeps: bool) -> Rows | None:
    """Return the rows of the result of an operation whose first operand has `rows`, or None.

    keeps: whether the operation returns its operand, but for rounding.
    """
    name, before, after = op.name.partition(".")[2], shape(op.operands[0]), shape(op.results[0])
    if keeps or name in _SAME_PLACES:
        return rows
    if name == "transpose":
        return replace(rows, dim=list(attribute(op, "permutation")).index(rows.dim))
    if name == "broadcast_in_dim":
        dim = attribute(op, "broadcast_dimensions")[rows.dim]
        return replace(rows, dim=dim) if after[dim] == before[rows.dim] else None
    if name == "reshape" and after and rows.dim == len(before) - 1 and after[-1] == before[-1]:
        return replace(rows, dim=len(after) - 1)
    return None


def known_elements(value: Value) -> NDArray[np.float64] | None:
    """Return the elements of a constant, perhaps rearranged, in the shape of the value.

    Other values give None, and so do constants that are not finite.
    """
    op = define(value)
    if op is None:
        return None
    name = op.name.partition(".")[2]
    if name == "constant":
        array = np.asarray(constant_value(op), np.float64)
        return array if np.all(np.isfinite(array)) else None
    if name not in ("reshape", "transpose", "broadcast_in_dim", "convert"):
        return None
    inner = known_elements(op.operands[0])
    if inner is None or name == "convert":
        return inner
    if name == "reshape":
        return inner.reshape(shape(value))
    if name == "transpose":
        return inner.transpose(attribute(op, "permutation"))
    places = attribute(op, "broadcast_dimensions")
    wide = [1] * len(shape(value))
    for place, size in zip(places, inner.shape, strict=True):
        wide[place] = size
    return np.broadcast_to(inner.reshape(wide), shape(value))


def product_interval(op: Op, at: At, rows: Mapping[Value, Rows]) -> Interval:
    """Return an interval for a product of matrices from the norms of its factors.

    An element is a sum of x_i w_i. With known w it is at most the sum of |w_i| times the largest |x_i|, and
    at most the lengths of x and w multiplied (Cauchy and Schwarz). It is at most the largest |w_i| times the
    sum of the |x_i|, whether w is known or not.
    """
    factors = [
        (value, dimensions(op, "dot_general", f"{side}_contracting_dimensions"))
        for value, side in zip(op.operands, ("lhs", "rhs"), strict=True)
    ]
    found = EVERYTHING
    for (x, x_dims), (w, w_dims) in (factors, factors[::-1]):
        columns = known_elements(w)
        if columns is not None and columns.size:
            found = meeting(found, _by_columns(at(x), columns, w_dims))
        row = rows.get(x)
        if row is not None and x_dims == (row.dim,):
            found = meeting(found, _by_row(row, at(x), at(w), shape(x)[row.dim], columns, w_dims))
    return found


def _by_columns(x: Interval, columns: NDArray[np.float64], dims: tuple[int, ...]) -> Interval:
    low, high = x
    if math.isinf(low) or math.isinf(high):
        return EVERYTHING
    positive, negative = (np.maximum(each, 0).sum(axis=dims) for each in (columns, -columns))
    least, most = positive * low - negative * high, positive * high - negative * low
    rounded = (_LEEWAY - 1) * float(np.max(positive + negative)) * max(abs(low), abs(high))
    return float(np.min(least)) - rounded, float(np.max(most)) + rounded


def _by_row(
    row: Rows,
    x: Interval,
    w: Interval,
    extent: int,
    columns: NDArray[np.float64] | None,
    dims: tuple[int, ...],
) -> Interval:
    largest = max(abs(w[0]), abs(w[1]))
    if columns is not None and columns.size:
        length = float(np.max(np.sqrt(np.square(columns).sum(axis=dims))))
    else:
        length = math.sqrt(extent) * largest
    by_length = _LEEWAY * _scaled(length, row.length)
    least, most = (min(0.0, w[0]), max(0.0, w[1])) if x[0] >= 0 else (-largest, largest)
    by_total = _LEEWAY * _scaled(least, row.total), _LEEWAY * _scaled(most, row.total)
    return meeting((-by_length, by_length), by_total)


def _scaled(end: float, factor: float) -> float:
    return 0.0 if 0 in (end, factor) else end * factor
