"""Normalisation of rows of any size: a secret power of two brings each row to one scale before its root."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ditto_kernels.inverse.whole_range import INTEGER, Whole, chosen, fit_whole, series_of
from ditto_kernels.products.multiply import finish, finish_additive, local_product, multiply
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import from_rss
from ditto_kernels.sharing.casts import convert, downcast, upcast
from ditto_kernels.sharing.local_arithmetic import plus_constant
from ditto_kernels.values import portable
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

_WIDE = 64
_SPLIT = 30  # rows of a length up to 2^30 are measured as they are, longer ones without their low bits
_COARSE = 16  # those bits
_LONGEST = 46  # rows are shorter than 2^46, in ulp
_TOP_BITS = 9  # the result stays below 2^9
_GAMMA_BITS = {8: 12, 16: 12, 32: 12, 64: 16}  # of gamma at most, by the ring of the result
_ROOT_BITS = (14, 20)  # of the root
_WAVE_BITS = 24
_DROPPED_BITS = 32  # of the last product at most: beyond, a wrap takes a container twice as large
_GAMMA_LIMIT = 4.0  # of the error bound
_PLACE = _LONGEST - 1  # of the highest bit of a scaled row
NOISE = 8  # rows of a deviation of fewer ulp are taken for constant ones


@dataclass(frozen=True)
class WholeNorm:
    """The public decisions of one normalisation.

    A row is centred and multiplied by `factor`, its length; 1 where no mean is taken. So it is exact.
    """

    length: int
    factor: int
    eps: float  # on the grid of the sums of squares
    fraction_bits: int  # of x
    scaled: Fxp  # rows of a length from 1 to 2
    gamma: Fxp
    root: Fxp  # root(length) over the length of the scaled row
    landing: Fxp
    plan: Whole
    least: int  # rows of a length below 2^least, in their units, become 0

    @property
    def product_bits(self) -> int:
        """Fraction bits of the last product."""
        return self.scaled.fraction_bits + self.gamma.fraction_bits + self.root.fraction_bits

    @property
    def largest(self) -> float:
        """Variances, or mean squares, up to this are served."""
        return 4.0 ** (_LONGEST - self.fraction_bits) / (self.length * float(self.factor) ** 2)


def serves(length: int, centred: bool) -> bool:
    """Whether rows of that length leave room for their squares."""
    return length * (length**2 if centred else 1) <= 2**40


@lru_cache(maxsize=64)
def fit_norm(length: int, x: Fxp, gamma: Fxp | None, out: Fxp, eps: float, centred: bool) -> WholeNorm:
    """Choose the formats of a normalisation of rows of that length. ValueError for rows that are too long."""
    factor = length if centred else 1
    if not serves(length, centred):
        raise ValueError(f"normalisation of rows of any size: {length} elements a row are too many")
    half = math.ceil(portable.log2(length) / 2)
    least, most = _ROOT_BITS
    weight = _GAMMA_BITS[out.ring_bits]
    weight = weight if gamma is None else min(gamma.fraction_bits, weight)
    free = _WIDE - out.ring_bits + out.fraction_bits
    total = min(_WIDE - 3 - _TOP_BITS, out.fraction_bits + _DROPPED_BITS)
    bits = min(out.fraction_bits + 1 + half, total - weight - least)
    bits += bits + 1 + weight + least <= min(free, total)
    narrow = out.ring_bits < _WIDE and bits + weight + least <= min(free, total)
    root = min(most, (min(free, total) if narrow else total) - bits - weight)
    landing = out if narrow else Fxp(_WIDE, out.fraction_bits)
    steps = eps * length * factor**2 * 4.0**x.fraction_bits
    plan = fit_whole(-0.5, 2 * _SPLIT, _WAVE_BITS, math.sqrt(length))
    formats = Fxp(_WIDE, bits), Fxp(_WIDE, weight), Fxp(_WIDE, root)
    least = math.floor(portable.log2(NOISE * factor * math.sqrt(length)))
    return WholeNorm(length, factor, steps, x.fraction_bits, *formats, landing, plan, least)


def _rows(party: Party, x: Rss, how: WholeNorm) -> Protocol[Rss]:
    """x, or its distance from the mean times the length, as integers in ring 64."""
    wide = x if x.fxp.ring_bits == _WIDE else (yield from upcast(party, x, _WIDE))
    if how.factor == 1:
        return wide.retagged(INTEGER)
    mine, following = (
        part * np.int64(how.factor) - part.sum(axis=-1, keepdims=True, dtype=np.int64)
        for part in (wide.mine, wide.next)
    )
    return Rss(mine, following, INTEGER)


def _squares(party: Party, rows: Rss, eps: float) -> Protocol[Rss]:
    """The sum of a row's squares modulo 2^64, with eps on its grid."""
    sums = local_product(rows, rows).sum(axis=-1, keepdims=True, dtype=np.int64)
    total = yield from finish(party, sums, 0, INTEGER)
    whole = round(eps) % 2**_WIDE
    return plus_constant(party, total, whole - 2**_WIDE if whole >= 2 ** (_WIDE - 1) else whole)


def _coarse_squares(party: Party, rows: Rss, how: WholeNorm) -> Protocol[Rss]:
    """`_squares` of rows without their low bits."""
    small = downcast(party, rows.retagged(Fxp(_WIDE, _COARSE)), Fxp(_WIDE // 2, 0))
    wide = yield from upcast(party.at("upcast"), small, _WIDE)
    return (yield from _squares(party.at("sum"), wide.retagged(INTEGER), how.eps / 4.0**_COARSE))


def _measured(party: Party, rows: Rss, how: WholeNorm) -> Protocol[tuple[Rss, Rss]]:
    """(the power of two by which a row is scaled, the sum of squares times a power of four).

    A row of a length from 2^j to 2^(j+1) is multiplied by 2^(45 - j), and a row of noise by 0.
    """
    fine, coarse = yield from parallel(
        _squares(party.at("fine"), rows, how.eps), _coarse_squares(party.at("coarse"), rows, how)
    )
    low, high = range(_SPLIT), range(_SPLIT, _LONGEST)
    scales = [0 if place < how.least else 2 ** (_PLACE - place) for place in range(_LONGEST)]
    (by_fine, scale_fine), (by_coarse, scale_coarse, is_short) = yield from parallel(
        chosen(
            party.at("fine_pieces"),
            from_rss(party, fine),
            [4**place for place in low[1:]],
            [[4 ** (_SPLIT - 1 - place) for place in low], scales[:_SPLIT]],
        ),
        chosen(
            party.at("coarse_pieces"),
            from_rss(party, coarse),
            [4 ** (place - _COARSE) for place in high],
            [
                [0, *(4 ** (_PLACE - place) for place in high)],
                [0, *scales[_SPLIT:]],
                [1, *(0 for _ in high)],
            ],
        ),
    )
    by_fine, scale_fine = yield from parallel(
        multiply(party.at("fine_by"), by_fine, is_short, INTEGER),
        multiply(party.at("fine_scale"), scale_fine, is_short, INTEGER),
    )
    scaled = local_product(fine, by_fine) + local_product(coarse, by_coarse)
    u = yield from finish(party.at("scaled"), scaled, 0, INTEGER)
    scale = Rss(scale_fine.mine + scale_coarse.mine, scale_fine.next + scale_coarse.next, INTEGER)
    return scale, u


def _weighted(party: Party, rows: Rss, scale: Rss, gamma: Rss | Array, how: WholeNorm) -> Protocol[Rss]:
    """Scaled rows times gamma."""
    scaled = yield from multiply(party.at("scaled"), rows, scale.retagged(Fxp(_WIDE, _PLACE)), how.scaled)
    fxp = Fxp(_WIDE, how.scaled.fraction_bits + how.gamma.fraction_bits)
    if isinstance(gamma, Rss):
        return (yield from multiply(party.at("weighted"), scaled, gamma, fxp))
    public = encode(gamma, how.gamma)
    return Rss(scaled.mine * public, scaled.next * public, fxp)


def _weights(party: Party, gamma: Rss | Array, how: WholeNorm) -> Protocol[Rss | Array]:
    return (yield from convert(party, gamma, how.gamma)) if isinstance(gamma, Rss) else gamma


def _root(party: Party, u: Rss, how: WholeNorm) -> Protocol[Rss]:
    series = yield from series_of(party.at("series"), u, how.plan.series)
    return (yield from finish_additive(party.at("result"), series, how.root))


def _shift(party: Party, beta: Rss | Array | None, how: WholeNorm) -> Protocol[Array | None]:
    """One's own component of beta on the grid of the last product."""
    if beta is None:
        return None
    fxp = Fxp(_WIDE, how.product_bits)
    if not isinstance(beta, Rss):
        return encode(beta, fxp) if party.rank == 0 else None
    wide = yield from convert(party.at("widen"), beta, Fxp(_WIDE, beta.fxp.fraction_bits))
    return wide.mine << np.int64(how.product_bits - beta.fxp.fraction_bits)


def normalise_whole(
    party: Party,
    x: Rss,
    gamma: Rss | Array,
    beta: Rss | Array | None,
    out: Fxp,
    how: WholeNorm,
) -> Protocol[Rss]:
    """Rows over the root of their mean square, times gamma, plus beta; `how` tells whether rows are centred.

    gamma, beta: Rss vectors or public arrays. Range: variances or mean squares up to `WholeNorm.largest`,
    |x| < 2^(k-2) ulp and, where rows are centred, length |x| < 2^62 ulp; |result| < 2^9 and within `out`.
    Rows whose deviation, or root mean square, is below 4 ulp with eps are rounding noise around a constant:
    they are normalised to 0. Those from 8 ulp on are not. Error: relative 2e-4 and 3 ulp of `out`, whatever
    the size of a row; rounding of x to its format is not counted. Rounds: 14 to 19. Cost: 86 to 146 bytes an
    element, and 2.2 KB a row for the thresholds. Security: sums are local, every product leaves under a zero
    share, openings are under full-width masks. Source: own, as `divide_whole`.
    """
    rows, weights, shift = yield from parallel(
        _rows(party.at("rows"), x, how),
        _weights(party.at("gamma"), gamma, how),
        _shift(party.at("beta"), beta, how),
    )
    scale, u = yield from _measured(party.at("measured"), rows, how)
    weighted, root = yield from parallel(
        _weighted(party.at("weighted"), rows, scale, weights, how), _root(party.at("root"), u, how)
    )
    product = local_product(weighted, root)
    if shift is not None:
        product = product + shift
    result = yield from finish(party.at("result"), product, how.product_bits, how.landing)
    return (yield from convert(party.at("cast"), result, out))


def whole_error(how: WholeNorm, gamma: Fxp | None, out: Fxp) -> float:
    """Error bound of `normalise_whole` for |gamma| <= 4."""
    largest = math.sqrt(how.length)
    coarse = 1.5 * largest * 2.0 ** (_COARSE - _SPLIT)  # of squares without their low bits
    relative = how.plan.error + 3 * how.root.ulp / largest + coarse
    exact = gamma is not None and gamma.fraction_bits <= how.gamma.fraction_bits
    grid = 0.0 if exact else how.gamma.ulp * (0.5 if gamma is None else 1.5)
    scaled = 1.5 * how.scaled.ulp * largest
    rounding = (3 if how.landing != out else 1.5) * out.ulp
    return _GAMMA_LIMIT * (largest * relative + scaled) + largest * grid + rounding
