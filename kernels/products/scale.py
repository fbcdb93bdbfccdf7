"""Multiply shared values by public numbers of any size, which only a run knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.local_step import local_step
from ditto_kernels.protocol.party import Party, Protocol
from ditto_kernels.sharing.additive import Additive, from_rss
from ditto_kernels.sharing.casts import components, convert, open_biased, reshared_wrap, upcast
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

FACTOR_BITS = 20  # bits of a public number's leading digits
_WIDE = 64
_MOST_DROPPED = _WIDE - 2


def _split(factor: Array, x: Fxp, fraction_bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return integers m and the bits d to drop: x * factor is x * m / 2^d in units of the result.

    m has `FACTOR_BITS` bits, or more where the product only has to be shifted to the left. Raises ValueError
    for NaN and infinity.
    """
    real = np.asarray(factor, np.float64)
    if not np.isfinite(real).all():
        raise ValueError("NaN or infinity cannot be a factor of fixed-point numbers")
    mantissa, exponent = np.frexp(real)
    digits = np.rint(np.ldexp(mantissa, FACTOR_BITS)).astype(np.int64)
    zeros = np.frexp((digits & -digits).astype(np.float64))[1] - 1  # binary zeros at the end, which go first
    dropped = x.fraction_bits + FACTOR_BITS - exponent.astype(np.int64) - fraction_bits
    zeros = np.clip(np.minimum(zeros, dropped), 0, None)
    lifted = np.clip(-dropped, 0, _WIDE - FACTOR_BITS - 1)
    digits = np.where(dropped - zeros > _MOST_DROPPED, 0, (digits >> zeros) << lifted)
    return digits, np.clip(dropped - zeros, 0, _MOST_DROPPED)


@local_step(lambda share, *_: absent(share.shape, share.dtype))
def _product(share: Array, factor: Array, x: Fxp, fraction_bits: int) -> Array:
    return np.asarray(share * _split(factor, x, fraction_bits)[0])


@local_step(lambda factor, *_: absent(factor.shape, np.dtype(np.int64)))
def _dropped(factor: Array, x: Fxp, fraction_bits: int) -> Array:
    return _split(factor, x, fraction_bits)[1]


@local_step(lambda bits: absent(bits.shape, bits.dtype))
def _bias(bits: Array) -> Array:
    """Return what makes values positive and centres the rounding, as `casts.truncation_bias` does."""
    half = np.where(bits > 0, np.int64(1) << np.maximum(bits - 1, 0), 0)
    return np.asarray(np.int64(1 << (_WIDE - 2)) - half)


def _shifted(value: Array, bits: Array) -> Array:
    """Shift every element right as an unsigned number, by its own number of bits."""
    return np.asarray((value.view(np.uint64) >> bits.astype(np.uint64)).view(np.int64))


def _lifted(wrap: Array, bits: Array) -> Array:
    """Return wrap * 2^(64 - bits), which is nothing where no bit is dropped."""
    return np.where(bits > 0, wrap << np.minimum(_WIDE - bits, _WIDE - 1), 0)


@local_step(lambda mask, *_: absent(mask.shape, mask.dtype))
def _of_mask(mask: Array, wrap: Array, bits: Array) -> Array:
    return np.asarray(_lifted(wrap, bits) - _shifted(mask, bits))


@local_step(lambda c, *_: absent(c.shape, c.dtype))
def _of_opening(c: Array, wrap: Array, bits: Array) -> Array:
    return np.asarray(_lifted(wrap, bits) + _shifted(c, bits) - (np.int64(1 << (_WIDE - 2)) >> bits))


def scale(party: Party, x: Rss, factor: Array, out: Fxp, range: float | None = None) -> Protocol[Rss]:
    """Compute x * factor elementwise, for a public array of the shape of x, in format `out`.

    Each factor keeps its leading 20 bits, whatever its size. So the product has its own fraction bits at each
    element, and each element drops its own number of bits. As factors are public, so are these numbers, and
    messages have one size.

    Range: |x| < 2^42 ulp, and |x * factor| < 2^62 ulp of fxp64 with the fraction bits of `out`; `range` is a
    declared bound of |result|, on which the error bound rests. Error: 1.5 ulp and 2^-20 of the result; none
    for an integer below 2^20 where `out` has the fraction bits of x. Cost: a truncation in ring 64, with the
    wraps in 64 bits. Rounds: 2, and those of casts from and to smaller rings. Security: as for
    `casts.truncate`, x is opened under a full-width one-time mask. Source: own; see `casts.truncate`.
    """
    del range
    if tuple(factor.shape) != tuple(x.shape):
        raise ValueError(f"factors of shape {list(factor.shape)} for values of shape {list(x.shape)}")
    if x.fxp.ring_bits < _WIDE:
        x = yield from upcast(party.at("widen"), x, _WIDE)
    fxp = Fxp(_WIDE, out.fraction_bits)
    dropped = _dropped(factor, x.fxp, out.fraction_bits)
    product = _product(from_rss(party, x).share, factor, x.fxp, out.fraction_bits)
    if party.role == "A":
        product = product + _bias(dropped)
    c, masks = yield from open_biased(party, Additive(product, fxp), 0)
    wraps = yield from reshared_wrap(party, c, _WIDE, masks)
    parts = components(
        party,
        c,
        masks,
        wraps,
        lambda mask, wrap: _of_mask(mask, wrap, dropped),
        lambda opened, wrap: _of_opening(opened, wrap, dropped),
    )
    return (yield from convert(party.at("cast"), Rss(*parts, fxp), out))


def _reference(x: Array, factor: Array, range: float | None = None) -> Array:
    return np.asarray(x) * np.asarray(factor)


def _error(x: Spec, factor: Spec, out: Fxp, range: float | None = None) -> float:
    largest = out.limit / 2 if range is None else range
    return 1.5 * out.ulp + largest * 2.0**-FACTOR_BITS


SCALE = Kernel("scale", scale, _reference, _error, "own: a truncation by as many bits as each factor asks")
