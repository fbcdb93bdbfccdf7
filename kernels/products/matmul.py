"""Matrix products of shares. The truncation is part of the way back to replicated shares."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.machine.backends import backend
from ditto_kernels.machine.operands import Combination, Prepared
from ditto_kernels.products.multiply import finish, how_to_finish, symmetric
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


def result_shape(left: tuple[int, ...], right: tuple[int, ...], dims: Dimensions) -> tuple[int, ...]:
    """Return the shape of a dot_general: batch, left free and right free dimensions.

    Raises ValueError unless `dims` pairs dimensions of the same size, each at most once. Plans of strangers
    are held against it.
    """
    (left_sum, right_sum), (left_batch, right_batch) = dims
    paired = [(left[i] for i in (*left_sum, *left_batch)), (right[i] for i in (*right_sum, *right_batch))]
    alike = len(left_sum) == len(right_sum) and len(left_batch) == len(right_batch)
    named = ((*left_sum, *left_batch), len(left)), ((*right_sum, *right_batch), len(right))
    once = all(len({*axes}) == len(axes) and {*axes} <= {*range(rank)} for axes, rank in named)
    if not (alike and once and [*paired[0]] == [*paired[1]]):
        raise ValueError(f"operands of shapes {left} and {right} have no product by {dims}")
    batch = [left[i] for i in left_batch]
    left_free = [size for i, size in enumerate(left) if i not in (*left_sum, *left_batch)]
    right_free = [size for i, size in enumerate(right) if i not in (*right_sum, *right_batch)]
    return tuple(batch + left_free + right_free)


def contraction(left: tuple[int, ...], dims: Dimensions) -> int:
    """Return the number of terms that an element of the result sums."""
    return math.prod([left[i] for i in dims[0][0]])


# The nine products of components take five matrix products: one at a party D, and two each at A = D + 1 and
# B = D + 2. A factor is p times a party's own component plus q times its next one, for these (p, q) of x and
# of w. Any party may be D here, whoever deals. It is always party 0, so that prepared weights serve every
# product.
_Factors = tuple[tuple[int, int], tuple[int, int]]
_FACTORS: dict[str, tuple[_Factors, ...]] = {
    "D": (((1, 1), (1, 1)),),
    "A": (((1, 0), (0, 1)), ((0, 1), (1, 1))),
    "B": (((1, 0), (0, 1)), ((0, 1), (1, 0))),
}
# Doubled, they take three. With x_A for component D + 1 and x_B for component D + 2,
#     2xw = (2 x_D + x_A)(2 w_D + w_A) + (x_A + 2 x_B)(w_A + 2 w_B) - 2 (x_B - x_D)(w_B - w_D).
_DOUBLED_FACTORS: dict[str, tuple[_Factors, ...]] = {
    "D": (((2, 1), (2, 1)),),
    "A": (((1, 2), (1, 2)),),
    "B": (((-2, 2), (1, -1)),),
}


def as_batches(
    value: NDArray[Any], summed: tuple[int, ...], batch: tuple[int, ...], last: bool
) -> NDArray[Any]:
    """Return (batch, free, summed) or, for the right operand, (batch, summed, free)."""
    order, shape = _batches(tuple(value.shape), summed, batch, last)
    return value.transpose(*order).reshape(shape)


@functools.lru_cache(maxsize=1 << 10)
def _batches(
    shape: tuple[int, ...], summed: tuple[int, ...], batch: tuple[int, ...], last: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the order of axes and the shape of `as_batches`."""
    free = tuple(i for i in range(len(shape)) if i not in (*summed, *batch))
    groups = (batch, free, summed) if last else (batch, summed, free)
    return sum(groups, ()), tuple(math.prod([shape[i] for i in group]) for group in groups)


def prepared(value: Rss, pairs: Sequence[tuple[int, int]], dims: Dimensions, left: bool) -> list[Prepared]:
    """Return p mine + q next for each pair, ready for products by `dims`."""
    summed, batch = (group[0 if left else 1] for group in dims)
    mine, following = (as_batches(each, summed, batch, last=True) for each in (value.mine, value.next))
    return [backend().prepare(Combination(mine, following, p, q), left) for p, q in pairs]


def _right(w: Rss, pairs: Sequence[tuple[int, int]], dims: Dimensions) -> list[Prepared]:
    """Return the right factors. They are kept with weights that serve many calls."""
    if w.prepared is None:
        return prepared(w, pairs, dims, left=False)
    form = ("right", tuple(pairs), dims)
    if form not in w.prepared:
        w.prepared[form] = prepared(w, pairs, dims, left=False)
    kept: list[Prepared] = w.prepared[form]
    return kept


def doubles(ring: int, fraction_bits: int, out: Fxp, values: tuple[float, float] | None) -> bool:
    """Return whether 2xw, which has one more fraction bit, fits the way to the result.

    If it does, each party multiplies matrices once and not twice. If the result has one more fraction bit
    than the product, the doubled product is the result. A narrow or lifted result needs room for the bits of
    its ring and the dropped ones. A truncated result needs twice the declared range to lie below 2^(k-2).
    Without a declared range nothing is promised, so the answer is no.
    """
    if fraction_bits + 1 == out.fraction_bits and ring == out.ring_bits:
        return True  # The caller asks for 2xw itself, and no bit is dropped.
    plan = how_to_finish(ring, fraction_bits, out, values)
    if plan.kind == "narrow":
        return out.ring_bits <= ring - plan.dropped - 1
    if plan.kind == "plain" or values is None or fraction_bits + 1 >= ring:
        return False
    more = how_to_finish(ring, fraction_bits + 1, out, values)
    if more.kind == "lift":
        return True
    largest = max(map(abs, values)) * 2.0 ** (fraction_bits + 1) + 2.0**more.dropped
    return more.kind == "truncate" and plan.kind == "truncate" and largest < 2.0 ** (ring - 2)


def local_products(rank: int, x: Rss, w: Rss, dims: Dimensions, double: bool = False) -> Array:
    """Return a party's own 3-of-3 share of xw or 2xw, without its zero share.

    It must not leave the party like this. Raises ValueError if the operands are in different rings.
    """
    if x.fxp.ring_bits != w.fxp.ring_bits:
        raise ValueError(f"operands in different rings: {x.fxp} and {w.fxp}")
    shape = result_shape(x.shape, w.shape, dims)
    if is_absent(x.mine) or is_absent(w.mine):
        return absent(shape, x.fxp.dtype)
    of_x, of_w = zip(*(_DOUBLED_FACTORS if double else _FACTORS)["DAB"[rank]], strict=True)
    if w.prepared is None and math.prod(shape) * contraction(x.shape, dims) < backend().least_terms:
        left, right = _few(x, of_x, dims, left=True), _few(w, of_w, dims, left=False)
        return sum(map(np.matmul, left[1:], right[1:]), np.matmul(left[0], right[0])).reshape(shape)
    pairs = zip(prepared(x, of_x, dims, left=True), _right(w, of_w, dims), strict=True)
    return backend().multiply([*pairs]).reshape(shape)


def _few(value: Rss, pairs: Sequence[tuple[int, int]], dims: Dimensions, left: bool) -> list[NDArray[Any]]:
    """Return the factors as arrays for numpy, which multiplies few elements before a back end has begun."""
    summed, batch = (group[0 if left else 1] for group in dims)
    ring = value.fxp.dtype.type
    # Batches have three dimensions: numpy would compute scalars in a wider ring.
    mine, following = (as_batches(each, summed, batch, last=left) for each in (value.mine, value.next))
    return [mine * ring(p) + following * ring(q) for p, q in pairs]


def matmul(
    party: Party, x: Rss, w: Rss, out: Fxp, dims: Dimensions, range: float | None = None
) -> Protocol[Rss]:
    """Compute a dot_general of two shared tensors, truncated to `out` on the way back to replicated shares.

    Formats: x and w are in one ring, and `out` is in that ring or a smaller one. `range` is a declared bound
    of |result|, which may make the product cheaper (`doubles`, `finish`). Range, error, cost and security:
    those of `multiply.finish`.

    Source: ABY3 section 5.1 for replicated products. One matrix product per party is our own: a local
    conversion to shares of another linear scheme (Cramer, Damgard, Ishai, TCC 2005) whose reconstruction
    divides by two.
    """
    fraction_bits, values = x.fxp.fraction_bits + w.fxp.fraction_bits, symmetric(range)
    double = doubles(x.fxp.ring_bits, fraction_bits, out, values)
    z = local_products(party.rank, x, w, dims, double)
    return (yield from finish(party, z, fraction_bits + double, out, values))


def matmul_reference(x: Array, w: Array, dims: Dimensions, **_: Any) -> NDArray[Any]:
    return np.asarray(jax.lax.dot_general(np.asarray(x, np.float64), np.asarray(w, np.float64), dims))


def _product_error(x: Spec, w: Spec, out: Fxp, **_: Any) -> float:
    return 1.5 * out.ulp


MATMUL = Kernel("matmul", matmul, matmul_reference, _product_error, "ABY3 (Mohassel, Rindal 2018), 5.1")
