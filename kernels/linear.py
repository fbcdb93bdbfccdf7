"""Matrix products of shares: int32 dots up to ring 32, float64 limbs for ring 64, truncation fused in."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.additive import Additive, from_rss
from ditto_kernels.cost import Cost, elements
from ditto_kernels.kernel import Kernel, Spec
from ditto_kernels.multiply import (
    finish,
    finish_additive,
    finish_additive_cost,
    finish_cost,
    how_to_finish,
    symmetric,
)
from ditto_kernels.party import Party, Protocol
from ditto_kernels.ring import Array, Fxp, encode
from ditto_kernels.rss import Known, Rss
from ditto_kernels.truncate import convert, convert_cost

Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]

LIMB_BITS = 22
_TINY = 1 << 17  # products of elements, up to which a call of XLA costs more
MAX_CONTRACTION = 2048  # 2 * 21 bits a limb product and 11 bits of terms stay exact in float64's 53 bits


def result_shape(left: tuple[int, ...], right: tuple[int, ...], dims: Dimensions) -> tuple[int, ...]:
    """Shape of a dot_general: batch, left free, right free."""
    (left_sum, right_sum), (left_batch, right_batch) = dims
    batch = [left[i] for i in left_batch]
    left_free = [size for i, size in enumerate(left) if i not in (*left_sum, *left_batch)]
    right_free = [size for i, size in enumerate(right) if i not in (*right_sum, *right_batch)]
    return tuple(batch + left_free + right_free)


def contraction(left: tuple[int, ...], dims: Dimensions) -> int:
    """Number of terms a result element sums."""
    return math.prod([left[i] for i in dims[0][0]])


def _left(x: Array, x_next: Array, role: str, double: bool) -> tuple[Array, ...]:
    """Left factors of this party's products of matrices; `_right` has the right ones.

    The nine products of components take five products of matrices, one at a party D and two at A = D + 1 and
    B = D + 2. Doubled, they take three: with x_A for component D + 1 and x_B for D + 2,
    2xw = (2 x_D + x_A)(2 w_D + w_A) + (x_A + 2 x_B)(w_A + 2 w_B) - 2 (x_B - x_D)(w_B - w_D).
    Any party may be D, whoever deals; it is party 0 always, so that prepared weights serve every product.
    """
    if double:
        return ({"D": 2 * x + x_next, "A": x + 2 * x_next, "B": -2 * (x - x_next)}[role],)
    return (x + x_next,) if role == "D" else (x, x_next)


def _right(w: Array, w_next: Array, role: str, double: bool) -> tuple[Array, ...]:
    if double:
        return ({"D": 2 * w + w_next, "A": w + 2 * w_next, "B": w - w_next}[role],)
    return {"D": (w + w_next,), "A": (w_next, w + w_next), "B": (w_next, w)}[role]


@partial(jax.jit, static_argnames=("role", "double"))
def _int_right(w: Array, w_next: Array, role: str, double: bool) -> tuple[Array, ...]:
    return _right(w.astype(jnp.int32), w_next.astype(jnp.int32), role, double)


@partial(jax.jit, static_argnames=("dims", "role", "double"))
def _int_products(
    x: Array, x_next: Array, right: tuple[Array, ...], dims: Dimensions, role: str, double: bool
) -> Array:
    """In rings up to 32: XLA's fast integer dot is the int32 one."""
    left = _left(x.astype(jnp.int32), x_next.astype(jnp.int32), role, double)
    return sum(jax.lax.dot_general(a, b, dims) for a, b in zip(left, right, strict=True))


def _prepared(w: Rss, role: str, double: bool) -> tuple[Array, ...]:
    """Right factors, kept with weights that serve many calls."""
    if w.prepared is not None and double in w.prepared:
        kept: tuple[Array, ...] = w.prepared[double]
        return kept
    make = _int_right if w.fxp.ring_bits <= 32 else _right
    right = make(w.mine, w.next, role, double)
    if w.prepared is not None:
        w.prepared[double] = right
    return right


@partial(jax.jit, static_argnames="dims")
def _int_dot(x: Array, w: Array, dims: Dimensions) -> Array:
    return jax.lax.dot_general(x.astype(jnp.int32), w.astype(jnp.int32), dims).astype(x.dtype)


def _as_batches(
    value: NDArray[Any], summed: tuple[int, ...], batch: tuple[int, ...], last: bool
) -> NDArray[Any]:
    """(batch, free, summed) or, for the right operand, (batch, summed, free)."""
    free = [i for i in range(value.ndim) if i not in (*summed, *batch)]
    order = [*batch, *free, *summed] if last else [*batch, *summed, *free]
    sizes = [math.prod([value.shape[i] for i in group]) for group in (batch, free, summed)]
    shape = (sizes[0], sizes[1], sizes[2]) if last else (sizes[0], sizes[2], sizes[1])
    return np.transpose(value, order).reshape(shape)


def _limbs(value: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Three signed limbs of 22 bits, exactly representable in float64."""
    limbs, half = [], np.int64(1 << (LIMB_BITS - 1))
    for _ in range(3):
        low = ((value + half) & np.int64((1 << LIMB_BITS) - 1)) - half
        limbs.append(low.astype(np.float64))
        value = (value - low) >> LIMB_BITS
    return limbs


def dot64(x: Array, w: Array, dims: Dimensions) -> NDArray[np.int64]:
    """dot_general in Z_2^64 by six float64 products of limbs."""
    (x_sum, w_sum), (x_batch, w_batch) = dims
    left = _as_batches(np.asarray(x), x_sum, x_batch, last=True)
    right = _as_batches(np.asarray(w), w_sum, w_batch, last=False)
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
    """Whether 2xw, with one fraction bit more, fits: then each party multiplies matrices once, not twice.

    A result with one fraction bit more than the product is nothing else. A narrow or lifted one needs the
    bits that its ring and the dropped ones fill; a truncated one twice the declared range below 2^(k-2).
    Without a declared range there is no promise, so no.
    """
    if fraction_bits + 1 == out.fraction_bits and ring == out.ring_bits:
        return True  # asked for: 2xw is the result, with nothing dropped
    how = how_to_finish(ring, fraction_bits, out, values)
    if how.kind == "narrow":
        return out.ring_bits <= ring - how.dropped - 1
    if how.kind == "plain" or values is None or fraction_bits + 1 >= ring:
        return False
    more = how_to_finish(ring, fraction_bits + 1, out, values)
    if more.kind == "lift":
        return True
    largest = max(map(abs, values)) * 2.0 ** (fraction_bits + 1) + 2.0**more.dropped
    return more.kind == "truncate" and how.kind == "truncate" and largest < 2.0 ** (ring - 2)


def _tiny_products(x: Rss, w: Rss, dims: Dimensions, role: str, double: bool) -> Array:
    """In numpy, which is slow at products of integers but needs no call of XLA."""
    (x_sum, w_sum), (x_batch, w_batch) = dims
    left = _left(np.asarray(x.mine), np.asarray(x.next), role, double)
    right = _right(np.asarray(w.mine), np.asarray(w.next), role, double)
    products = [
        np.matmul(_as_batches(a, x_sum, x_batch, last=True), _as_batches(b, w_sum, w_batch, last=False))
        for a, b in zip(left, right, strict=True)
    ]
    total = products[0] if len(products) == 1 else products[0] + products[1]
    return total.reshape(result_shape(x.shape, w.shape, dims))


def local_products(rank: int, x: Rss, w: Rss, dims: Dimensions, double: bool = False) -> Array:
    """One's own 3-of-3 share of xw or 2xw, without its zero share: must not leave the party like this."""
    if x.fxp.ring_bits != w.fxp.ring_bits:
        raise ValueError(f"operands in different rings: {x.fxp} and {w.fxp}")
    role = "DAB"[rank]
    terms = math.prod(result_shape(x.shape, w.shape, dims)) * contraction(x.shape, dims)
    if x.fxp.ring_bits <= 32 and w.prepared is None and terms < _TINY:
        return _tiny_products(x, w, dims, role, double)
    right = _prepared(w, role, double)
    if x.fxp.ring_bits <= 32:
        product = _int_products(x.mine, x.next, right, dims, role, double)
        return np.asarray(product).astype(x.fxp.dtype, copy=False)
    left = _left(np.asarray(x.mine), np.asarray(x.next), role, double)
    return np.asarray(sum(dot64(a, b, dims) for a, b in zip(left, right, strict=True)))


def matmul(
    party: Party, x: Rss, w: Rss, out: Fxp, dims: Dimensions, range: float | None = None
) -> Protocol[Rss]:
    """dot_general of two shared tensors, truncated to `out` on the way back to replicated shares.

    Formats: x and w in one ring; out in that ring or a smaller one. `range`: declared |result|, which may
    make it cheaper (`doubles`, `finish`). Range, error, cost and security: `multiply.finish`.
    Source: ABY3 section 5.1 for replicated products; one product a party: own, a local conversion to shares
    of another linear scheme (Cramer, Damgard, Ishai, TCC 2005) whose reconstruction divides by two.
    """
    fraction_bits, values = x.fxp.fraction_bits + w.fxp.fraction_bits, symmetric(range)
    double = doubles(x.fxp.ring_bits, fraction_bits, out, values)
    if party.phase == "ahead" and not party.masked:  # what is dealt does not depend on the product
        z = np.zeros(result_shape(x.shape, w.shape, dims), x.fxp.dtype)
    else:
        z = local_products(party.rank, x, w, dims, double)
    return (yield from finish(party, z, fraction_bits + double, out, values))


def matmul_public(
    party: Party,
    x: Rss,
    w: Array | Known,
    out: Fxp,
    dims: Dimensions,
    weight_fraction_bits: int,
    public_left: bool = False,
    range: float | None = None,
) -> Protocol[Rss]:
    """dot_general of a shared and a public real tensor, truncated to `out`.

    A and B multiply their 2-of-2 sharing of x, one product of matrices each; the dealer multiplies nothing.
    `range`: declared |result|, which may make it cheaper. Range, error, cost: `multiply.finish_additive`,
    and the rounding of the public tensor. Security: nothing is sent before the product is masked.
    """
    additive, fxp = from_rss(party, x), Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + weight_fraction_bits)
    shape = result_shape(w.shape, x.shape, dims) if public_left else result_shape(x.shape, w.shape, dims)
    share = additive.share
    if share is not None and party.phase == "ahead" and not party.masked:
        share = np.zeros(shape, x.fxp.dtype)  # what is dealt does not depend on the product
    elif share is not None:
        public = _encoded(w, Fxp(x.fxp.ring_bits, weight_fraction_bits))
        local = _int_dot if x.fxp.ring_bits <= 32 else dot64
        share = np.asarray(
            local(public, share, dims=dims) if public_left else local(share, public, dims=dims)
        )
    landing = _landing(fxp, out)
    result = yield from finish_additive(party, Additive(share, shape, fxp), landing, symmetric(range))
    return (yield from convert(party.at("out"), result, out))


def _landing(product: Fxp, out: Fxp) -> Fxp:
    """Where the product is finished: `out`, or what comes nearest in the ring of the product."""
    if out.ring_bits <= product.ring_bits and out.fraction_bits <= product.fraction_bits:
        dropped = product.fraction_bits - out.fraction_bits
        if out.ring_bits == product.ring_bits or out.ring_bits <= product.ring_bits - dropped:
            return out
    return Fxp(product.ring_bits, min(out.fraction_bits, product.fraction_bits))


def _encoded(w: Array | Known, fxp: Fxp) -> Array:
    """A public operand as ring elements, kept if it serves many calls."""
    if not isinstance(w, Known):
        return encode(w, fxp)
    if fxp not in w.prepared:
        elements_ = encode(w.value, fxp)
        w.prepared[fxp] = jnp.asarray(elements_) if fxp.ring_bits <= 32 else elements_
    kept: Array = w.prepared[fxp]
    return kept


def _matmul_reference(x: Array, w: Array, dims: Dimensions, **_: Any) -> NDArray[Any]:
    return np.asarray(jax.lax.dot_general(np.asarray(x, np.float64), np.asarray(w, np.float64), dims))


def _matmul_cost(x: Spec, w: Spec, out: Fxp, dims: Dimensions, range: float | None = None) -> Cost:
    assert x.fxp is not None and w.fxp is not None
    ring, values = x.fxp.ring_bits, symmetric(range)
    bits = x.fxp.fraction_bits + w.fxp.fraction_bits
    bits += doubles(ring, bits, out, values)
    count = elements(result_shape(x.shape, w.shape, dims))
    return finish_cost(count, ring, bits - out.fraction_bits, out, values)


def _matmul_public_cost(
    x: Spec,
    w: Spec,
    out: Fxp,
    dims: Dimensions,
    weight_fraction_bits: int,
    public_left: bool = False,
    range: float | None = None,
) -> Cost:
    assert x.fxp is not None
    shape = result_shape(w.shape, x.shape, dims) if public_left else result_shape(x.shape, w.shape, dims)
    product = Fxp(x.fxp.ring_bits, x.fxp.fraction_bits + weight_fraction_bits)
    landing, count = _landing(product, out), elements(shape)
    dropped = product.fraction_bits - landing.fraction_bits
    finished = finish_additive_cost(count, product.ring_bits, dropped, landing, symmetric(range))
    return finished + convert_cost(shape, landing, out)


def _product_error(x: Spec, w: Spec, out: Fxp, **_: Any) -> float:
    return 1.5 * out.ulp


def _public_error(x: Spec, w: Spec, out: Fxp, **attributes: Any) -> float:
    """On top comes the rounding of the public operand: half an ulp of it a term, for |x| <= 1."""
    dims = attributes["dims"]
    terms = contraction(w.shape if attributes.get("public_left") else x.shape, dims)
    return 1.5 * out.ulp + terms * 2.0 ** -(attributes["weight_fraction_bits"] + 1)


MATMUL = Kernel(
    "matmul", matmul, _matmul_reference, _matmul_cost, _product_error, "ABY3 (Mohassel, Rindal 2018), 5.1"
)
MATMUL_PUBLIC = Kernel(
    "matmul_public",
    matmul_public,
    _matmul_reference,
    _matmul_public_cost,
    _public_error,
    "ABY3 (2018), 5.1",
    keeps_public=True,
)
