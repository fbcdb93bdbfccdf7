"""Root-mean-square normalisation is layer normalisation without a mean and without beta."""

from __future__ import annotations

from typing import Any

import numpy as np

from ditto_kernels.inverse.whole_range import WHOLE_RANGE
from ditto_kernels.norm.five_rounds import normalise
from ditto_kernels.norm.layer_norm import nothing, scaled, whole_of
from ditto_kernels.norm.norm_plan import Plan, norm_error, plan_norm
from ditto_kernels.norm.whole_norm import normalise_whole, whole_error
from ditto_kernels.products.multiply import finish
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.casts import convert, upcast
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_WIDE = 64
# Mean squares of embeddings start near 0.02^2, and the residual stream of a deep decoder passes 100^2.
MEAN_SQUARE = (2.0**-13, 2.0**14)
_ROOT_BITS = 12  # The range is wide, so that more bits would cost the last product its free truncation.
_WEIGHTS = ((14, 0), (12, 0), (10, 0))  # No mean is taken, so that x needs no bits beyond its own.


def _plan(x: Spec | Rss, gamma: Fxp | None, out: Fxp, **attributes: Any) -> Plan:
    assert x.fxp is not None
    attributes.setdefault("variance", MEAN_SQUARE)
    return plan_norm(
        x.shape, x.fxp, gamma, out, root_bits=_ROOT_BITS, weights=_WEIGHTS, centred=False, **attributes
    )


def _widen(party: Party, x: Rss, plan: Plan) -> Protocol[Rss]:
    wide = x if x.fxp.ring_bits == _WIDE else (yield from upcast(party, x, _WIDE))
    fine = plus_constant(party, wide, 0, 1 << (plan.centred.fraction_bits - x.fxp.fraction_bits))
    return Rss(fine.mine, fine.next, plan.centred)


def _run(party: Party, x: Rss, gamma: Rss | Array, *, out: Fxp, **attributes: Any) -> Protocol[Rss]:
    """Compute x / sqrt(mean(x^2) + eps) * gamma over the last dimension.

    - gamma: an Rss vector (ring 32 or 64) or a public array.
    - variance: the declared range of each row's mean square. The default is 2^-13 to 2^14, and rows may
      differ. A smaller mean square gives a bounded result, and a larger one a wrong result.
    - inner: the least number of fraction bits.

    Range: |x| < 2^(k-2) ulp, |result| < 2^9 and within `out`. Error: relative 4e-4 in the root where it is
    smallest, half an ulp of x, half an ulp of gamma's format (10 to 14 bits), and 1.5 ulp of `out`. Cost with
    ring 32 in and out: 60 bytes per element, or 36 if gamma is public. Up to `tuning.FIVE_ROUND_ROWS` rows
    are normalised in five rounds, as layer norms are.

    Security: as for layer normalisation.

    All of this holds for the windowed form. With approx = "whole", `normalise_whole` serves rows of any size.
    """
    gamma_fxp = gamma.fxp if isinstance(gamma, Rss) else None
    whole = whole_of(x, gamma_fxp, out, attributes, centred=False)
    if whole is not None:
        return (yield from normalise_whole(party.at("whole"), x, gamma, None, out, whole))
    plan = _plan(x, gamma_fxp, out, **attributes)
    few = plan.few_of(party.worth)
    if few is not None:
        return (yield from normalise(party, few, x, gamma, None, out))
    wide, scale = yield from parallel(
        _widen(party.at("widen"), x, plan),
        convert(party.at("gamma"), gamma, plan.gamma) if isinstance(gamma, Rss) else nothing(),
    )
    product = yield from scaled(party, plan, wide, gamma if scale is None else scale)
    result = yield from finish(party.at("result"), product, plan.product_bits, plan.landing)
    return (yield from convert(party.at("cast"), result, out))


def _variant(x: Spec, gamma: Spec, *, out: Fxp, worth: int, **attributes: Any) -> str:
    if whole_of(x, gamma.fxp, out, attributes, centred=False) is not None:
        return WHOLE_RANGE
    few = _plan(x, gamma.fxp, out, **attributes).few_of(worth)
    return few.name if few is not None else ""


def _reference(x: Array, gamma: Array, *, eps: float = 1e-12, **_: Any) -> Array:
    value = np.asarray(x, dtype=np.float64)
    return value / np.sqrt(np.mean(value**2, axis=-1, keepdims=True) + eps) * gamma


def _error(x: Spec, gamma: Spec, *, out: Fxp, **attributes: Any) -> float:
    """Bound the error for |gamma| <= 4. Rows of the least mean square decide."""
    whole = whole_of(x, gamma.fxp, out, attributes, centred=False)
    if whole is not None:
        return whole_error(whole, gamma.fxp, out)
    plan = _plan(x, gamma.fxp, out, **attributes)
    assert x.fxp is not None
    return norm_error(plan, x.fxp, gamma.fxp, attributes.get("variance", MEAN_SQUARE), 0.0, out)


_PAPER = "own: as layer_norm, without the mean"
RMS_NORM = Kernel("rms_norm", _run, _reference, _error, _PAPER, along="dim", vectors=1, variant=_variant)
