"""Layer normalisation centres rows in ring 64 and takes one inverse root per row.

Gamma and beta are part of the last product. Few rows take the fewest rounds instead (`five_rounds`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ditto_kernels.inverse.by_thresholds import Table, fit_table, inverse
from ditto_kernels.inverse.whole_range import WHOLE, WHOLE_RANGE
from ditto_kernels.machine.fused import fused
from ditto_kernels.norm.five_rounds import normalise
from ditto_kernels.norm.five_rounds_plan import Few, few, few_error
from ditto_kernels.norm.whole_norm import WholeNorm, fit_norm, normalise_whole, whole_error
from ditto_kernels.products.low_bits import LOW, finish_low
from ditto_kernels.products.multiply import finish, finish_kind, local_product, multiply
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.sharing.additive import Additive
from ditto_kernels.sharing.casts import convert, truncate, upcast
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

_WIDE = 64
VARIANCE = (2.0**-11, 2.0**8)  # Real models have rows with variances of 0.002 and 129 side by side.
_MEAN_BITS = 30  # the fraction bits of the public 1/n
_ROOT_BITS = 14  # the bits of the reciprocal standard deviation where it is smallest
_SQUARES_BITS = 46  # the bits of the sum of a row's squares, for which multipliers have at least 16 bits
_LEAST_BITS, _MOST_BITS = 12, 52  # the bits of n^2 times the variance of a row, in ulp of the squares
_TOP_BITS = 9  # The result stays below 2^9.
_GAMMA_LIMIT = 4.0  # The error bound holds for |gamma| up to this.


@dataclass(frozen=True)
class Plan:
    """The public decisions of one layer normalisation."""

    shape: tuple[int, ...]
    centred: Fxp  # the format of x - mean
    gamma: Fxp
    squares: Fxp  # the format of the row sums of centred squares
    eps: int  # n * eps on the grid of the squares
    inverse: Table
    root: Fxp  # the format of the reciprocal standard deviation
    landing: Fxp
    divisor: int  # the number by which the squares are too large: the length, or its square
    low: bool  # whether rows are normalised modulo 2^48 before they meet gamma
    few: Few | None = None  # the plan for few rows, if it serves these formats

    def few_of(self, worth: int) -> Few | None:
        """Return the plan for few rows, if they are few where a saved round is worth so many bytes."""
        return self.few if self.few is not None and self.few.serves(worth) else None

    @property
    def length(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> tuple[int, ...]:
        return (*self.shape[:-1], 1)

    @property
    def product_bits(self) -> int:
        """The fraction bits of the last product."""
        return self.centred.fraction_bits + self.gamma.fraction_bits + self.root.fraction_bits

    @property
    def low_bits(self) -> int:
        """The fraction bits of rows that are normalised modulo 2^48."""
        return self.centred.fraction_bits + self.root.fraction_bits - (_WIDE - LOW)


@lru_cache(maxsize=64)
def plan_norm(
    shape: tuple[int, ...],
    fxp: Fxp,
    gamma: Fxp | None,
    out: Fxp,
    *,
    dim: int = -1,
    eps: float = 1e-12,
    inner: Fxp | None = None,
    variance: tuple[float, float] = VARIANCE,
    root_bits: int = _ROOT_BITS,
    weights: tuple[tuple[int, int], ...] = ((14, 2), (12, 0), (11, 0)),  # The mean matters more than gamma.
    centred: bool = True,
) -> Plan:
    """Choose formats so that no product leaves its ring for the declared variances.

    `root_bits` are the bits of the inverse root where it is smallest. `weights` pairs the fraction bits of
    gamma with the bits that centred values must have beyond those of x, and the first pair that fits is
    taken. `centred` says whether the mean is taken. Raises ValueError if no formats serve.
    """
    if dim % len(shape) != len(shape) - 1:
        raise ValueError(f"normalisation works over the last dimension, not over dimension {dim}")
    if inner is not None and inner.ring_bits != _WIDE:
        raise ValueError(f"normalisation computes in a ring of {_WIDE} bits, not in {inner}")
    length, (lo, hi) = shape[-1], variance
    least = max(fxp.fraction_bits, inner.fraction_bits if inner is not None else 0)
    root = root_bits + max(0, math.ceil(portable.log2(hi) / 2))
    free, total = _WIDE - out.ring_bits + out.fraction_bits, _WIDE - 3 - _TOP_BITS
    # The ring can sum squares of these bits.
    squared = (_WIDE - 2 - math.ceil(portable.log2(hi * length))) // 2
    for budget, landing in ((min(free, total), out), (total, Fxp(_WIDE, out.fraction_bits))):
        if landing is out and out.ring_bits == _WIDE:
            continue
        for most, spare in weights:
            weight = most if gamma is None else min(gamma.fraction_bits, most)
            bits = min(budget - root - weight, least + 4, squared)
            dropped = bits + weight + root - landing.fraction_bits
            if bits >= least + spare and finish_kind(_WIDE, dropped, landing):
                formats = Fxp(_WIDE, bits), Fxp(_WIDE, weight), Fxp(_WIDE, root), landing
                low = centred and gamma is not None and landing is out and _fits_low(fxp, length, lo, hi)
                squares = _squares(fxp if low else formats[0], hi * length, low)
                plan = _complete(shape, formats, eps, lo, hi, length**2 if low else length, squares, low)
                return replace(plan, few=few(shape, fxp, gamma, out, variance, eps, least, centred))
    raise ValueError(
        f"normalisation from {fxp} to {out}, {length} elements a row of a variance up to {hi:g}: "
        f"too many fraction bits for a ring of {_WIDE} bits"
    )


def _fits_low(fxp: Fxp, length: int, lo: float, hi: float) -> bool:
    """Return whether squares of rows that are not centred fit, and have bits enough for the least variance.

    Rows must come from a smaller ring, because what leaves its cast is a mask at the dealer.
    """
    scale = length**2 * fxp.ulp**-2
    return fxp.ring_bits < _WIDE and hi * scale < 2.0**_MOST_BITS and lo * scale >= 2.0**_LEAST_BITS


def _squares(fxp: Fxp, largest: float, low: bool) -> Fxp:
    """Return the format of squares of rows in `fxp`, whose sums stay below `largest`."""
    if low:
        return Fxp(_WIDE, 2 * fxp.fraction_bits)
    room = _SQUARES_BITS - math.ceil(portable.log2(largest))
    return Fxp(_WIDE, min(2 * fxp.fraction_bits if fxp.fraction_bits <= 14 else 26, room))


def _complete(
    shape: tuple[int, ...],
    formats: tuple[Fxp, Fxp, Fxp, Fxp],
    eps: float,
    lo: float,
    hi: float,
    divisor: int,
    squares: Fxp,
    low: bool,
) -> Plan:
    centred, gamma, root, landing = formats
    plan = fit_table("rsqrt", squares, lo, hi, root, divisor)
    small = round(eps * divisor * 2.0**squares.fraction_bits)
    return Plan(shape, centred, gamma, squares, small, plan, root, landing, divisor, low)


def _centre(party: Party, x: Rss, plan: Plan) -> Protocol[Rss]:
    """Return x - mean in ring 64."""
    wide = x if x.fxp.ring_bits == _WIDE else (yield from upcast(party.at("widen"), x, _WIDE))
    return (yield from _less_mean(party, wide, plan))


def _less_mean(party: Party, wide: Rss, plan: Plan) -> Protocol[Rss]:
    """Return x - mean of an x in ring 64.

    The row sum is local, 1/n is public, and there is one truncation per row.
    """
    rise = plan.centred.fraction_bits - wide.fxp.fraction_bits
    share_of_row = round(2.0**_MEAN_BITS / plan.length) << rise
    mine, following = (
        part.sum(axis=-1, keepdims=True, dtype=np.int64) * np.int64(share_of_row)
        for part in (wide.mine, wide.next)
    )
    sums = Rss(mine, following, Fxp(_WIDE, plan.centred.fraction_bits + _MEAN_BITS))
    mean = yield from truncate(party.at("mean"), sums, _MEAN_BITS)
    mine, following = (_less(wide.mine, mean.mine, rise=rise), _less(wide.next, mean.next, rise=rise))
    return Rss(mine, following, plan.centred)


@fused()
def _less(x: Array, mean: Array, *, rise: int) -> Array:
    """Return x with more fraction bits, less the mean of its row."""
    return (x << rise) - mean


def _normalised(party: Party, x: Rss, plan: Plan) -> Protocol[Rss]:
    """Return (x - mean) / sqrt(variance + eps) modulo 2^48, for an x from a smaller ring.

    The squares are n Σ x^2 - (Σ x)^2, which is exact. The dealer deals its share of them, which is made of
    masks. So the inverse root waits neither for the mean nor for a reshare.
    """
    wide = yield from upcast(party.at("widen"), x, _WIDE)
    mine, following = (part.sum(axis=-1, keepdims=True, dtype=np.int64) for part in (wide.mine, wide.next))
    squares = local_product(wide, wide).sum(axis=-1, keepdims=True, dtype=np.int64) * np.int64(plan.length)
    sums = Rss(mine, following, wide.fxp)
    share = squares - local_product(sums, sums)
    (dealt,) = yield from deal(party, [Deal("squares", share.shape, share.dtype)], lambda: [share])
    eps = np.int64(plan.eps if party.role == "A" else 0)
    centred, root = yield from parallel(
        _less_mean(party, wide, plan),
        inverse(party.at("root"), Additive(share + dealt + eps, plan.squares), plan.inverse, plan.root),
    )
    bits = centred.fxp.fraction_bits + root.fxp.fraction_bits
    return (yield from finish_low(party.at("normalised"), local_product(centred, root), bits))


def scaled(party: Party, plan: Plan, centred: Rss, gamma: Rss | Array) -> Protocol[Array]:
    """Return a party's own 3-of-3 share of centred * gamma / sqrt(mean square + eps).

    Rows are divided by the root of their squares. `gamma` is an Rss in `plan.gamma`, or a public array. The
    result has `plan.product_bits` fraction bits and no zero share yet.
    """
    squares = local_product(centred, centred).sum(axis=-1, keepdims=True, dtype=np.int64)
    bits = plan.centred.fraction_bits
    weighted_fxp = Fxp(_WIDE, bits + plan.gamma.fraction_bits)
    if isinstance(gamma, Rss):
        total, weighted = yield from parallel(
            finish(party.at("squares"), squares, 2 * bits, plan.squares),
            multiply(party.at("gamma_product"), centred, gamma, weighted_fxp),
        )
    else:
        total = yield from finish(party.at("squares"), squares, 2 * bits, plan.squares)
        public = encode(gamma, plan.gamma)
        weighted = Rss(centred.mine * public, centred.next * public, weighted_fxp)
    total = plus_constant(party, total, plan.eps)
    root = yield from inverse(party.at("root"), total, plan.inverse, plan.root)
    return local_product(weighted, root)


def scaled_error(plan: Plan, gamma: Fxp | None, variance: tuple[float, float], shift: float) -> float:
    """Bound the error of `scaled` with its truncation.

    It holds for |gamma| <= 4 and centred values that are off by `shift`.
    """
    lo, hi = variance
    relative = plan.inverse.error + 1.5 * plan.root.ulp * math.sqrt(hi) + shift**2 / lo
    relative += 2 * plan.squares.ulp / (plan.divisor * lo)
    largest = math.sqrt(plan.length)
    grid = plan.gamma.ulp * (
        1.5 if gamma is not None and gamma.fraction_bits > plan.gamma.fraction_bits else 0.5
    )
    units = shift / math.sqrt(lo) + largest * relative
    if plan.low:
        units += 1.5 * 2.0**-plan.low_bits
    return _GAMMA_LIMIT * units + largest * grid + 1.5 * plan.landing.ulp


def norm_error(
    plan: Plan, x: Fxp, gamma: Fxp | None, variance: tuple[float, float], shift: float, out: Fxp
) -> float:
    """Bound the error of a norm for |gamma| <= 4, by whichever form it is computed."""
    few = 0.0 if plan.few is None else few_error(plan.few, x, gamma, variance, out)
    if plan.few_of(ROUND_WORTH) is not None:
        return few  # Rows that are few on every network take no other form.
    bound = scaled_error(plan, gamma, variance, shift)
    return max(few, bound + (1.5 * out.ulp if plan.landing.fraction_bits > out.fraction_bits else 0.0))


def whole_of(
    x: Spec | Rss, gamma: Fxp | None, out: Fxp, attributes: dict[str, Any], centred: bool
) -> WholeNorm | None:
    """The plan for rows of any size where the attributes ask for it, which leaves them without that word."""
    assert x.fxp is not None
    if attributes.pop("approx", None) != WHOLE:
        return None
    if attributes.get("dim", -1) % len(x.shape) != len(x.shape) - 1:
        raise ValueError("normalisation works over the last dimension")
    return fit_norm(x.shape[-1], x.fxp, gamma, out, attributes.get("eps", 1e-12), centred)


def nothing() -> Protocol[None]:
    return None
    yield


def _run(
    party: Party, x: Rss, gamma: Rss | Array, beta: Rss | Array, *, out: Fxp, **attributes: Any
) -> Protocol[Rss]:
    """Compute (x - mean) / sqrt(variance + eps) * gamma + beta over the last dimension.

    - gamma, beta: Rss vectors (ring 32 or 64) or public arrays.
    - variance: the declared range of each row's variance. The default is 2^-11 to 2^8, and rows may differ. A
      smaller variance gives a bounded result, and a larger one a wrong result.
    - inner: the least number of fraction bits.

    Range: |x| < 2^(k-2) ulp, |mean| < 2^(27-f), |result| < 2^9 and within `out`. Error: relative 2e-4 in
    1/sigma, 1.5 ulp of the centred format in the mean, and 1.5 ulp of `out`. Cost with ring 32 in and out: 54
    bytes per element, or 36 if gamma is public. Up to `tuning.FIVE_ROUND_ROWS` rows are normalised by
    `five_rounds`. They take 5 rounds instead of 12, with a smaller error and more bytes.

    Security: sums are local, and every product leaves under a zero share or a full-width mask.

    All of this holds for the windowed form. With approx = "whole", `normalise_whole` serves rows of any size.
    """
    gamma_fxp = gamma.fxp if isinstance(gamma, Rss) else None
    whole = whole_of(x, gamma_fxp, out, attributes, centred=True)
    if whole is not None:
        return (yield from normalise_whole(party.at("whole"), x, gamma, beta, out, whole))
    plan = plan_norm(x.shape, x.fxp, gamma_fxp, out, **attributes)
    few = plan.few_of(party.worth)
    if few is not None:
        return (yield from normalise(party, few, x, gamma, beta, out))
    rows = party.at("centre")
    value, scale, shift = yield from parallel(
        _normalised(rows, x, plan) if plan.low else _centre(rows, x, plan),
        convert(party.at("gamma"), gamma, plan.gamma) if isinstance(gamma, Rss) else nothing(),
        convert(party.at("beta"), beta, Fxp(_WIDE, beta.fxp.fraction_bits))
        if isinstance(beta, Rss)
        else nothing(),
    )
    if plan.low:
        bits = plan.low_bits + plan.gamma.fraction_bits
        product = local_product(value, scale)
    else:
        bits = plan.product_bits
        product = yield from scaled(party, plan, value, gamma if scale is None else scale)
    if isinstance(beta, Rss):
        product = product + (shift.mine << np.int64(bits - shift.fxp.fraction_bits))
    elif party.rank == 0:
        product = product + encode(beta, Fxp(_WIDE, bits))
    result = yield from finish(party.at("result"), product, bits, plan.landing)
    return (yield from convert(party.at("cast"), result, out))


def _variant(x: Spec, gamma: Spec, beta: Spec, *, out: Fxp, worth: int, **attributes: Any) -> str:
    assert x.fxp is not None
    if whole_of(x, gamma.fxp, out, attributes, centred=True) is not None:
        return WHOLE_RANGE
    few = plan_norm(x.shape, x.fxp, gamma.fxp, out, **attributes).few_of(worth)
    return few.name if few is not None else ""


def _reference(x: Array, gamma: Array, beta: Array, *, eps: float = 1e-12, **_: Any) -> Array:
    value = np.asarray(x, dtype=np.float64)
    centred = value - value.mean(axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * gamma + beta


def _error(x: Spec, gamma: Spec, beta: Spec, *, out: Fxp, **attributes: Any) -> float:
    """Bound the error for |gamma| <= 4 and |mean| <= 8. Rows of the least variance decide."""
    assert x.fxp is not None
    whole = whole_of(x, gamma.fxp, out, attributes, centred=True)
    if whole is not None:
        return whole_error(whole, gamma.fxp, out)
    plan = plan_norm(x.shape, x.fxp, gamma.fxp, out, **attributes)
    mean = 1.5 * plan.centred.ulp + 8 * plan.length * 2.0 ** -(_MEAN_BITS + 1)
    return norm_error(plan, x.fxp, gamma.fxp, attributes.get("variance", VARIANCE), mean, out)


_PAPER = "own: centred sums in ring 64, threshold inverse root, gamma and beta folded into the last product"
LAYER_NORM = Kernel("layer_norm", _run, _reference, _error, _PAPER, along="dim", vectors=2, variant=_variant)
