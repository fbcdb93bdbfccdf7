"""Matrix products of shares use int32 up to ring 32 and float64 limbs for ring 64.

The truncation is part of the way back to replicated shares.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.products.multiply import (
    finish,
    how_to_finish,
    symmetric,
)
from ditto_kernels.protocol import tuning
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.values.absent import absent, is_absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]

LIMB_BITS = 22
MAX_CONTRACTION = 2048  # 2 * 21 bits of a limb product and 11 bits of terms fit float64's 53 exact bits.


def result_shape(left: tuple[int, ...], right: tuple[int, ...], dims: Dimensions) -> tuple[int, ...]:
    """Return the shape of a dot_general: batch, left free and right free dimensions."""
    (left_sum, right_sum), (left_batch, right_batch) = dims
    batch = [left[i] for i in left_batch]
    left_free = [size for i, size in enumerate(left) if i not in (*left_sum, *left_batch)]
    right_free = [size for i, size in enumerate(right) if i not in (*right_sum, *right_batch)]
    return tuple(batch + left_free + right_free)


def contraction(left: tuple[int, ...], dims: Dimensions) -> int:
    """Return the number of terms that an element of the result sums."""
    return math.prod([left[i] for i in dims[0][0]])


def _left(x: Any, x_next: Any, role: str, double: bool) -> tuple[Any, ...]:
    """Return the left factors of this party's matrix products. `_right` returns the right ones.

    The nine products of components take five matrix products: one at a party D, and two each at A = D + 1 and
    B = D + 2. Doubled, they take three. With x_A for component D + 1 and x_B for component D + 2,

        2xw = (2 x_D + x_A)(2 w_D + w_A) + (x_A + 2 x_B)(w_A + 2 w_B) - 2 (x_B - x_D)(w_B - w_D).

    Any party may be D here, whoever deals. It is always party 0, so that prepared weights serve every
    product.
    """
    if double:
        return ({"D": 2 * x + x_next, "A": x + 2 * x_next, "B": -2 * (x - x_next)}[role],)
    return (x + x_next,) if role == "D" else (x, x_next)


def _right(w: Any, w_next: Any, role: str, double: bool) -> tuple[Any, ...]:
    if double:
        return ({"D": 2 * w + w_next, "A": w + 2 * w_next, "B": w - w_next}[role],)
    return {"D": (w + w_next,), "A": (w_next, w + w_next), "B": (w_next, w)}[role]


@partial(jax.jit, static_argnames=("role", "double"))
def _int_right(w: jax.Array, w_next: jax.Array, role: str, double: bool) -> tuple[Any, ...]:
    return _right(w.astype(jnp.int32), w_next.astype(jnp.int32), role, double)


@partial(jax.jit, static_argnames=("dims", "role", "double"))
def _int_products(
    x: jax.Array, x_next: jax.Array, right: tuple[jax.Array, ...], dims: Dimensions, role: str, double: bool
) -> Any:
    """Multiply in int32, the fast integer type of XLA's dot, for rings up to 32."""
    left = _left(x.astype(jnp.int32), x_next.astype(jnp.int32), role, double)
    return sum(jax.lax.dot_general(a, b, dims) for a, b in zip(left, right, strict=True))


def _prepared(w: Rss, role: str, double: bool) -> tuple[Any, ...]:
    """Return the right factors. They are kept with weights that serve many calls."""
    if w.prepared is not None and double in w.prepared:
        kept: tuple[Any, ...] = w.prepared[double]
        return kept
    make = _int_right if w.fxp.ring_bits <= 32 else _right
    right = make(w.mine, w.next, role, double)
    if w.prepared is not None:
        w.prepared[double] = right
    return right


def as_batches(
    value: NDArray[Any], summed: tuple[int, ...], batch: tuple[int, ...], last: bool
) -> NDArray[Any]:
    """Return (batch, free, summed) or, for the right operand, (batch, summed, free)."""
    free = [i for i in range(value.ndim) if i not in (*summed, *batch)]
    order = [*batch, *free, *summed] if last else [*batch, *summed, *free]
    sizes = [math.prod([value.shape[i] for i in group]) for group in (batch, free, summed)]
    shape = (sizes[0], sizes[1], sizes[2]) if last else (sizes[0], sizes[2], sizes[1])
    return np.transpose(value, order).reshape(shape)


def _limbs(value: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return three signed limbs of 22 bits, which float64 represents exactly."""
    limbs, half = [], np.int64(1 << (LIMB_BITS - 1))
    for _ in range(3):
        low = ((value + half) & np.int64((1 << LIMB_BITS) - 1)) - half
        limbs.append(low.astype(np.float64))
        value = (value - low) >> LIMB_BITS
    return limbs


def dot64(x: Array, w: Array, dims: Dimensions) -> NDArray[np.int64]:
    """Compute dot_general in Z_2^64 by six float64 products of limbs."""
    (x_sum, w_sum), (x_batch, w_batch) = dims
    left = as_batches(x, x_sum, x_batch, last=True)
    right = as_batches(w, w_sum, w_batch, last=False)
    total = np.zeros((left.shape[0], left.shape[1], right.shape[2]), np.int64)
    for start in range(0, left.shape[2], MAX_CONTRACTION):
        stop = start + MAX_CONTRACTION
        left_limbs, right_limbs = _limbs(left[:, :, start:stop]), _limbs(right[:, start:stop])
        for i in range(3):
            for j in range(3 - i):
                product = np.matmul(left_limbs[i], right_limbs[j]).astype(np.int64)
                total += product << np.int64(LIMB_BITS * (i + j))
    return total.reshape(result_shape(tuple(x.shape), tuple(w.shape), dims))


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


def _tiny_products(x: Rss, w: Rss, dims: Dimensions, role: str, double: bool) -> Array:
    """Multiply in numpy, which is slow at products of integers but needs no call of XLA."""
    (x_sum, w_sum), (x_batch, w_batch) = dims
    # Factors are made of batches, which have three dimensions: numpy would compute scalars in a wider ring.
    x_mine, x_next = (as_batches(each, x_sum, x_batch, last=True) for each in (x.mine, x.next))
    w_mine, w_next = (as_batches(each, w_sum, w_batch, last=False) for each in (w.mine, w.next))
    left, right = _left(x_mine, x_next, role, double), _right(w_mine, w_next, role, double)
    products = [np.matmul(a, b) for a, b in zip(left, right, strict=True)]
    total = products[0] if len(products) == 1 else products[0] + products[1]
    return total.reshape(result_shape(x.shape, w.shape, dims))


def local_products(rank: int, x: Rss, w: Rss, dims: Dimensions, double: bool = False) -> Array:
    """Return a party's own 3-of-3 share of xw or 2xw, without its zero share.

    It must not leave the party like this. Raises ValueError if the operands are in different rings.
    """
    if x.fxp.ring_bits != w.fxp.ring_bits:
        raise ValueError(f"operands in different rings: {x.fxp} and {w.fxp}")
    if is_absent(x.mine) or is_absent(w.mine):
        return absent(result_shape(x.shape, w.shape, dims), x.fxp.dtype)
    role = "DAB"[rank]
    terms = math.prod(result_shape(x.shape, w.shape, dims)) * contraction(x.shape, dims)
    if x.fxp.ring_bits <= 32 and w.prepared is None and terms < tuning.NUMPY_MATMUL_TERMS:
        return _tiny_products(x, w, dims, role, double)
    right = _prepared(w, role, double)
    if x.fxp.ring_bits <= 32:
        product = _int_products(x.mine, x.next, right, dims, role, double)
        return np.asarray(product).astype(x.fxp.dtype, copy=False)
    left = _left(x.mine, x.next, role, double)
    return np.asarray(sum(dot64(a, b, dims) for a, b in zip(left, right, strict=True)))


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
