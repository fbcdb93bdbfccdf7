"""Tell in shares whether elements of a product wrapped, by sums of its columns with random coefficients.

A product XW that leaves its ring comes back shifted by a multiple of a power of two. With public random
coefficients e, X(We) and (XW)e are equal, but the left side takes one short product of its own. We is dropped
to fewer bits first, so that the ring holds more of X(We) than of XW. An element that wrapped then shifts the
difference of its row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ditto_kernels.products.guard_lift import LIMBS, lifted_sum
from ditto_kernels.products.matmul import Dimensions, as_batches, doubles, local_products, result_shape
from ditto_kernels.products.multiply import how_to_finish, symmetric, zero_share
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Dealing, Party, Protocol, Round, parallel
from ditto_kernels.sharing.additive import Additive
from ditto_kernels.sharing.casts import narrow, narrowing_bias, truncate_additive
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

SEEN = 6  # wraps are counted modulo 2^6
WRAPS = Fxp(16, 16 - SEEN)  # the format of a difference, in units of one wrap
REPEATS = 3  # so many sums of every row, each with coefficients of its own
LARGEST = 31  # coefficients are odd and at most this large
_SEED = 16
_BATCHED: Dimensions = (((2,), (1,)), ((0,), (0,)))
_BYTE = np.dtype(np.uint8)


@dataclass(frozen=True)
class Watch:
    """How a product is watched. All bits are those of the product before its truncation.

    ring: the ring of the operands.
    dropped: the fraction bits that the result has less than the product.
    unit: a wrap shifts the result by multiples of 2^unit.
    shift: the bits by which the sums of the one operand are dropped.
    lifted: whether the result lies in a ring that holds no wraps, so that its elements are lifted first.
    """

    ring: int
    dropped: int
    unit: int
    shift: int
    lifted: bool


def watch(ring: int, fraction_bits: int, y: Fxp, range: float | None, double: bool) -> Watch | None:
    """Return how to watch a product that was finished in `y`, or None where no wrap can be seen.

    ring, fraction_bits: those of the product, without doubling. double: whether it was doubled.
    """
    plan = how_to_finish(ring, fraction_bits + double, y, symmetric(range))
    dropped = fraction_bits - y.fraction_bits
    unit = {"narrow": y.ring_bits + dropped, "lift": 16 + dropped, "truncate": ring - double, "plain": ring}
    at = unit[plan.kind]
    shift = max(0, SEEN - (ring - at))
    if plan.kind == "plain" or dropped < shift or at - shift < WRAPS.fraction_bits:
        return None
    return Watch(ring, dropped, at, shift, plan.kind == "narrow")


def _watched(x: Any, w: Any, y: Any, range: float | None, weight_fraction_bits: int | None) -> Watch | None:
    """Return how to watch the product of operands with formats. A public w has `weight_fraction_bits`."""
    public = weight_fraction_bits is not None
    bits = x.fxp.fraction_bits + (weight_fraction_bits if public else w.fxp.fraction_bits)
    ring = x.fxp.ring_bits
    try:
        double = not public and doubles(ring, bits, y.fxp, symmetric(range))
        return watch(ring, bits, y.fxp, range, double)
    except ValueError:  # the product is finished in another format and cast from there
        return None


def can_watch(
    x: Spec, w: Spec, y: Spec, range: float | None = None, weight_fraction_bits: int | None = None
) -> bool:
    """Tell whether `guard_product` sees wraps of this product: it is truncated, lifted or narrowed."""
    return _watched(x, w, y, range, weight_fraction_bits) is not None


@local_step(lambda seed, count: absent((count, REPEATS), np.dtype(np.int8)))
def _expand(seed: Array, count: int) -> Array:
    """Return odd coefficients from -LARGEST to LARGEST, expanded from the seed."""
    stream = hashlib.shake_256(seed.tobytes()).digest(count * REPEATS)
    drawn = np.frombuffer(stream, np.uint8).reshape(count, REPEATS) & np.uint8(LARGEST)
    return (2 * drawn.astype(np.int8) - np.int8(LARGEST)).astype(np.int8)


def _coefficients(party: Party, count: int) -> Protocol[Array]:
    """Draw public coefficients, which all three parties know and no value of the request depends on."""
    name = "coefficients"
    if party.role == "B":
        (seed,) = yield Dealing((), (party.expect(party.dealer, name, (_SEED,), _BYTE),))
        return _expand(seed, count)
    seed = party.draw(party.dealer + 1, name, (_SEED,), _BYTE)
    told = party.role == "D" and party.phase != "online"
    yield Dealing((party.send(party.b, name, seed, offline=True),) if told else ())
    return _expand(seed, count)


@jax.jit
def _int_sums(values: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Return values @ coefficients in int32, one column at a time, which takes as long as to read values."""
    wide, factors = values.astype(jnp.int32), coefficients.astype(jnp.int32)
    return jnp.stack([wide @ factors[:, each] for each in range(REPEATS)], axis=-1)


@local_step(lambda values, coefficients: absent((*values.shape[:-1], coefficients.shape[-1]), values.dtype))
def _weighted(values: Array, coefficients: Array) -> Array:
    """Return values @ coefficients in the ring of the values.

    Ring 64 takes two float64 products of limbs, which are exact.
    """
    if values.dtype.itemsize < 8:
        return np.asarray(_int_sums(values, coefficients)).astype(values.dtype, copy=False)
    factors = coefficients.astype(np.float64)
    high, low = values >> np.int64(32), values & np.int64((1 << 32) - 1)
    upper, lower = ((limb.astype(np.float64) @ factors).astype(np.int64) for limb in (high, low))
    return (upper << np.int64(32)) + lower


@local_step(lambda values, sums: absent((*values.shape[:-1], sums.shape[-1]), values.dtype))
def _times(values: Array, sums: Array) -> Array:
    return np.matmul(values, sums)


def _rows(value: Array, dims: Dimensions, left: bool) -> Array:
    """Return an operand as (batch, free, summed)."""
    summed, batch = (each[0 if left else 1] for each in dims)
    found = as_batches(value, summed, batch, last=left)
    return found if left else found.swapaxes(1, 2)


def _sizes(left: tuple[int, ...], right: tuple[int, ...], dims: Dimensions) -> tuple[int, int, int]:
    """Return the sizes of the result: batch, left and right free dimensions."""
    batch = math.prod([left[i] for i in dims[1][0]])
    frees = [
        math.prod([size for i, size in enumerate(shape) if i not in (*dims[0][at], *dims[1][at])])
        for at, shape in enumerate((left, right))
    ]
    return batch, frees[0], frees[1]


def counted(
    x: tuple[int, ...], w: tuple[int, ...], dims: Dimensions, summed: str, public_left: bool = False
) -> int:
    """Return how many numbers `guard_product` returns for operands of these shapes."""
    batch, rows, columns = _sizes(*((w, x) if public_left else (x, w)), dims)
    return batch * (rows if summed == "right" else columns) * REPEATS + LIMBS


def guard_product(
    party: Party,
    x: Rss,
    w: Rss | Array,
    y: Rss,
    out: Fxp,
    dims: Dimensions,
    summed: str = "right",
    range: float | None = None,
    weight_fraction_bits: int | None = None,
    public_left: bool = False,
) -> Protocol[Rss]:
    """Return for every row (or column) of a product how many wraps a random sum of its elements has.

    x, w, y: the operands and the result of `matmul` or `matmul_public`, with the same attributes.
    summed: the operand whose free dimension is summed, "right" for one sum a row. It must be a public one.
    Returns `out` = fxp16.10 [sums + 4], with REPEATS sums a row: the sum of e_j t_j modulo 2^6, for odd
    coefficients e_j and the wraps t_j of the elements. The last four are zero, or random if a result in a
    narrower ring than the operands leaves the range in which it lifts. All are in units of one wrap.

    Range: a sum of the summed operand lies below a quarter of the ring, and the Euclidean norm of a row of
    the other one, as ring elements, below 2^(k - 8). A result in a narrower ring lies below 29/32 of its
    format's limit. Beyond, right products count as wrapped. Error: less than half a wrap.

    Misses: a number of wraps that is a multiple of 64. One element with any other number is always found. Two
    in the same row cancel with probability 1/32 a repetition.

    Cost: 2k + 4w bits for an element of the short operand, 48 for each sum, and those of `lifted_sum`; 3 or 4
    rounds.
    Security: the coefficients are public and independent of every value. All else is masked as in `truncate`
    and `finish`. Source: Freivalds (1977) verifies products like this; counting wraps is our own.
    """
    found = _watched(x, w, y, range, weight_fraction_bits)
    if found is None or out != WRAPS:
        raise ValueError(f"the wraps of a product in {y.fxp} cannot be counted in {out}")
    left, right = (w, x) if public_left else (x, w)
    right_summed = summed == "right"
    one, other = (right, left) if right_summed else (left, right)
    batch, rows, columns = _sizes(tuple(left.shape), tuple(right.shape), dims)
    coefficients = yield from _coefficients(party.at("coin"), columns if right_summed else rows)
    results = y.reshape((batch, rows, columns))
    if not right_summed:
        results = Rss(results.mine.swapaxes(1, 2), results.next.swapaxes(1, 2), y.fxp)
    product, (sums, near) = yield from parallel(
        _of_operands(party, one, other, coefficients, dims, right_summed, found, weight_fraction_bits),
        _of_results(party, results, coefficients, found),
    )
    share = product - sums
    share += zero_share(party, "zero", share.shape, found.ring)
    low = found.unit - found.shift - WRAPS.fraction_bits
    small = narrow(share, low, WRAPS.ring_bits, narrowing_bias(low) if party.rank == 0 else 0)
    near = near + zero_share(party, "near zero", (LIMBS,), WRAPS.ring_bits)
    mine = np.concatenate([small.reshape(-1), near])
    (following,) = yield Round(
        (party.send((party.rank - 1) % 3, "reshare", mine),),
        (party.expect((party.rank + 1) % 3, "reshare", mine.shape, WRAPS.dtype),),
    )
    return Rss(mine, following, WRAPS)


def _of_operands(
    party: Party,
    one: Rss | Array,
    other: Any,
    coefficients: Array,
    dims: Dimensions,
    right: bool,
    found: Watch,
    weight_fraction_bits: int | None,
) -> Protocol[Array]:
    """Return this party's 3-of-3 share of the product with the sums of one operand, dropped by the shift."""
    mine, following = (_rows(each, dims, right) for each in (other.mine, other.next))
    if not isinstance(one, Rss):
        assert weight_fraction_bits is not None
        public = _rows(encode(one, Fxp(found.ring, weight_fraction_bits)), dims, not right).swapaxes(1, 2)
        yield Round()
        return _times(mine, _dropped(_weighted(public, coefficients), found.shift))
    wide = Fxp(found.ring, found.ring - 1)  # enough fraction bits for any shift

    def short(component: Array) -> Array:
        return _weighted(_rows(component, dims, not right).swapaxes(1, 2), coefficients)

    if found.shift:
        sums = yield from truncate_additive(party.at("sums"), _shares(party, one, short, wide), found.shift)
    else:
        sums = Rss(short(one.mine), short(one.next), wide)
    return local_products(party.rank, Rss(mine, following, wide), sums, _BATCHED)


def _shares(party: Party, value: Rss, short: Callable[[Array], Array], fxp: Fxp) -> Additive:
    """Return the 2-of-2 sharing of a linear function, which takes fewer passes than both components."""
    if party.role == "A":
        return Additive(short(value.mine) + short(value.next), fxp)
    component = value.next if party.role == "B" else absent(value.shape, fxp.dtype)
    return Additive(short(component), fxp)


@local_step(lambda sums, bits: sums)
def _dropped(sums: Array, bits: int) -> Array:
    return sums >> sums.dtype.type(bits)


def _of_results(party: Party, y: Rss, coefficients: Array, found: Watch) -> Protocol[tuple[Array, Array]]:
    """Return this party's 3-of-3 shares of the sums of the results, in the bits of the product.

    Also return its share of whether all results lift (`lifted_sum`).
    """
    rise = found.dropped - found.shift
    near = np.zeros(LIMBS, WRAPS.dtype)
    if found.lifted:
        sums, near = yield from lifted_sum(
            party.at("lift"), y, found.ring, lambda values: _weighted(values, coefficients)
        )
    else:
        yield Round()
        sums = _weighted(y.mine, coefficients)
    return sums << sums.dtype.type(rise), near


def _reference(
    x: Array, w: Array, y: Array, dims: Dimensions, summed: str = "right", public_left: bool = False, **_: Any
) -> NDArray[Any]:
    """Return zeros: no element of a right product wraps."""
    left, right = (w, x) if public_left else (x, w)
    assert np.shape(y) == result_shape(np.shape(left), np.shape(right), dims)
    return np.zeros(counted(np.shape(x), np.shape(w), dims, summed, public_left))


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.5


PRODUCT_GUARD = Kernel(
    "product_guard",
    guard_product,
    _reference,
    _error,
    "Freivalds 1977, on shares; our own",
    all_deal=True,
)
