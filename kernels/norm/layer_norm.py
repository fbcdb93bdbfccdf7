"""Layer normalisation centres rows in ring 64 and takes one inverse root per row.

Gamma and beta are part of the last product. Few rows take the fewest rounds instead (`five_rounds`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_kernels.inverse.by_thresholds import inverse
from ditto_kernels.inverse.whole_range import WHOLE, WHOLE_RANGE
from ditto_kernels.machine.fused import fused
from ditto_kernels.norm.five_rounds import normalise
from ditto_kernels.norm.norm_plan import VARIANCE, Plan, norm_error, plan_norm
from ditto_kernels.norm.whole_norm import WholeNorm, fit_norm, normalise_whole, whole_error
from ditto_kernels.products.low_bits import finish_low
from ditto_kernels.products.multiply import finish, local_product, multiply
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Deal, Party, Protocol, deal, parallel
from ditto_kernels.sharing.additive import Additive
from ditto_kernels.sharing.casts import convert, truncate, upcast
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_MEAN_BITS = 30  # the fraction bits of the public 1/n


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
