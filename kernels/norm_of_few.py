"""Normalisation of few rows in five rounds: all that is not linear comes from openings and dealt products.

A and B open x under a mask; sums of squares are then local, since products of masks are dealt. Beside the windows of
the inverse root (`root_of_few`) they open the weights and the sum of the row, then the weighted centred values beside the
windows' bits, then the root; the last product is local again and is reshared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ditto_kernels.additive import Additive, from_rss
from ditto_kernels.cost import Cost, dealt, elements, exchanged
from ditto_kernels.lifted import Lift, dealers_part, mask_part, open_part
from ditto_kernels.multiply import finish_additive, finish_additive_cost
from ditto_kernels.party import Deal, Party, Protocol, Round, deal, parallel
from ditto_kernels.ring import Array, Fxp, encode, signed
from ditto_kernels.root_of_few import (
    ENTRIES,
    TERMS,
    Windows,
    choose,
    deal_choice,
    deal_tables,
    evaluate,
    window_shares,
    windows,
)
from ditto_kernels.rss import Rss
from ditto_kernels.truncate import convert, convert_cost

FEW_ROWS = 4  # a row's tables take 33 KB (45 of root mean squares), whatever its length: more rows would deal too much
_WIDE = 64
_ROOM = _WIDE - 3  # bits of sums and products, without sign and bias
_TOP_BITS = 9  # the result stays below 2^9
_ROOT_BITS = 16  # of the root where it is smallest
_WEIGHT_BITS = 14  # of public weights
_MOST_WEIGHT_BITS = 18  # of shared ones
_GAMMA_LIMIT = 4.0  # of the error bound

Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Few:
    """The public decisions. Rows are centred times `factor`, their length; 1 where no mean is taken."""

    rows: int
    length: int
    factor: int
    x: Lift
    weight: Fxp
    shared: bool  # whether the weights are
    eps: int  # on the grid of the sums of squares
    windows: Windows
    weighted: Lift
    product_bits: int  # fraction bits of the last product

    @property
    def centres(self) -> bool:
        return self.factor > 1

    @property
    def shrunk(self) -> float:
        """What centred values are multiplied by: `factor` and a power of two."""
        return self.factor / 2.0 ** _digits(self.factor)


def _digits(factor: int) -> int:
    return (factor - 1).bit_length()


def few(
    shape: tuple[int, ...],
    x: Fxp,
    weight: Fxp | None,
    out: Fxp,
    span: tuple[float, float],
    eps: float,
    least: int,
    centred: bool,
) -> Few | None:
    """How to normalise rows whose variances, or mean squares, lie in `span`; None: not this way.

    weight: format of gamma, None if it is public. least: fraction bits of the weighted values at least.
    """
    length, rows, (lo, hi) = shape[-1], math.prod(shape[:-1]), span
    if not 1 <= rows <= FEW_ROWS or length < 2 or x.ring_bits < 32:
        return None
    factor = length if centred else 1
    squares = math.log2(factor * length * (hi + eps)) + 2 * x.fraction_bits
    spared = max(0, math.ceil((squares - _ROOM) / 2))
    lift, fraction = Lift(x.ring_bits, spared), x.fraction_bits - spared
    bits = _WEIGHT_BITS if weight is None else min(weight.fraction_bits, _MOST_WEIGHT_BITS)
    natural = fraction + _digits(factor) + bits
    root = _ROOT_BITS + max(0, math.ceil(math.log2(hi) / 2))
    free = _WIDE - out.ring_bits + out.fraction_bits if out.ring_bits < _WIDE else _WIDE
    kept = min(natural, min(free, _ROOM - _TOP_BITS) - root)
    scale, shrunk = factor * length * 4.0**fraction, (factor / 2.0 ** _digits(factor)) ** 2
    found = windows(scale / shrunk, lo * shrunk, (hi + eps) * shrunk, root)
    fits = lift.wraps_at >= _WIDE // 2 and _TOP_BITS + math.log2(hi + eps) / 2 + natural < _ROOM
    if found is None or not fits or kept < least or kept + root < out.fraction_bits:
        return None
    weighted = Lift(_WIDE, natural - kept)
    steps = round(eps * scale)
    shared = weight is not None
    return Few(
        rows, length, factor, lift, Fxp(_WIDE, bits), shared, steps, found, weighted, kept + root
    )


@lru_cache(maxsize=64)
def _rounds(how: Few) -> tuple[tuple[Deal, ...], ...]:
    """The masks under which A and B open, by round."""
    rows, vectors, count, wide = how.rows, (how.rows, how.length), how.windows.count, signed(_WIDE)
    weight = (Deal("weight", (how.length,), wide),) if how.shared else ()
    total = (Deal("total", (rows, 1), wide),) if how.shared and how.centres else ()
    values = Deal("values", (rows, count), wide), Deal("pattern", (rows,), signed(8))
    return (
        (Deal("x", vectors, signed(how.x.ring)),),
        (*weight, *total, Deal("index", (rows, count), signed(32))),
        (Deal("weighted", vectors, wide), *values),
        (Deal("root", (rows, 1), wide),),
    )


@lru_cache(maxsize=64)
def _items(how: Few) -> tuple[Deal, ...]:
    """What is dealt, before anything is opened."""
    rows, vectors, count, wide = how.rows, (how.rows, how.length), how.windows.count, signed(_WIDE)
    items = [
        Deal("squares", (rows, 1), wide),
        Deal("product", vectors, wide),
        Deal("polynomials", (TERMS, rows, count, ENTRIES), wide),
        Deal("choice", (rows, how.windows.patterns, 2 * count + 1), wide),
        Deal("bits", (rows, count - 1, ENTRIES), signed(8)),
    ]
    if how.shared:
        items.append(Deal("weighted", vectors, wide))
    if how.x.wraps:
        items.append(Deal("x_wraps", (3 + how.shared, *vectors), how.x.container))
    if how.weighted.wraps:
        items.append(Deal("wraps", (3, *vectors), how.weighted.container))
    return tuple(items)


def _size(items: Sequence[Deal]) -> int:
    return sum(math.prod(item.shape) * item.dtype.itemsize for item in items)


def _cut(stream: Array, items: Sequence[Deal]) -> dict[str, Array]:
    """One drawn stream as tensors, the widest first to keep them aligned."""
    tensors, start = {}, 0
    for item in sorted(items, key=lambda item: -item.dtype.itemsize):
        stop = start + _size([item])
        tensors[item.name] = stream[start:stop].view(item.dtype).reshape(item.shape)
        start = stop
    return tensors


def _material(how: Few, first: Tensors, second: Tensors) -> list[Array]:
    """The dealer's values of `_items`, from A's and B's masks."""
    inner, carry, top = dealers_part(first["x"], second["x"], how.x)
    spread = how.factor * inner - inner.sum(axis=-1, keepdims=True) if how.centres else inner
    values = {"squares": (spread * inner).sum(axis=-1, keepdims=True)}
    wraps = [carry, top, spread.astype(top.dtype) * top]
    if how.shared:
        weight = first["weight"] + second["weight"]
        moved = how.factor * inner - first["total"] - second["total"] if how.centres else inner
        values["weighted"] = weight * moved
        wraps.append(weight.astype(top.dtype) * top)
    values["x_wraps"] = np.stack(wraps)
    values["polynomials"], values["bits"] = deal_tables(how.windows, first["index"] + second["index"])
    pattern = first["pattern"] + second["pattern"]
    values["choice"] = deal_choice(how.windows, pattern, first["values"], second["values"])
    root = first["root"] + second["root"]
    inner, carry, top = dealers_part(first["weighted"], second["weighted"], how.weighted)
    values["product"] = inner * root
    values["wraps"] = np.stack([carry, top, root.astype(top.dtype) * top])
    return [values[item.name] for item in _items(how)]


def _deal(party: Party, how: Few) -> Protocol[None]:
    """The dealer's side: all is dealt at once."""
    items = [item for opened in _rounds(how) for item in opened]

    def make() -> list[Array]:
        first, second = party.draw_both("masks", (_size(items),), np.dtype(np.uint8))
        return _material(how, _cut(first, items), _cut(second, items))

    yield from deal(party, _items(how), make)
    for _ in _rounds(how):
        yield Round()


def _open(party: Party, items: Sequence[Deal], masks: Tensors, shares: Tensors) -> Protocol[Tensors]:
    """A and B swap masked shares and add them up: one round."""
    other = party.b if party.role == "A" else party.a
    mine = {item.name: shares[item.name] + masks[item.name] for item in items}
    received = yield Round(
        tuple(party.send(other, f"open {name}", each) for name, each in mine.items()),
        tuple(party.expect(other, f"open {item.name}", item.shape, item.dtype) for item in items),
    )
    return {name: each + theirs for (name, each), theirs in zip(mine.items(), received, strict=True)}


@dataclass(frozen=True)
class _Lifted:
    """A vector in ring 64 as A or B knows it: `part` is open, `mask` its share of the rest (see `lifted`)."""

    part: Array
    mask: Array
    sees: Array  # whether a wrap of the mask counts
    lift: Lift

    def wrapped(self, products: Array) -> Array:
        """Shares of dealt products of top bits, where they count."""
        return self.lift.wrapped(products * self.sees)


def _lifted(lift: Lift, c: Array, mask: Array, wraps: Array | None) -> _Lifted:
    sees = c >= 0
    both = None if wraps is None else wraps[0] + wraps[1] * sees
    return _Lifted(open_part(c, lift), mask_part(mask, lift, both), sees, lift)


def _compute(party: Party, how: Few, x: Array, weight: Array) -> Protocol[Array]:
    """A's and B's side, from shares of x and of gamma (or gamma, encoded): shares of the last product."""
    leader, rounds = party.role == "A", _rounds(how)
    items = [item for opened in rounds for item in opened]
    masks = _cut(party.draw_with_dealer("masks", (_size(items),), np.dtype(np.uint8)), items)
    shares = yield from deal(party, _items(how), list)
    given: Tensors = {item.name: share for item, share in zip(_items(how), shares, strict=True)}
    bias = 1 if leader else 0
    opened = yield from _open(party, rounds[0], masks, {"x": x + x.dtype.type(bias * how.x.bias)})
    values = _lifted(how.x, opened["x"], masks["x"], given.get("x_wraps"))
    share = values.part + values.mask if leader else values.mask
    total = share.sum(axis=-1, keepdims=True) if how.centres else 0
    number = _squares(how, values, share, given) + np.int64(bias * how.eps)
    index = window_shares(how.windows, number, leader)
    opened = yield from _open(
        party, rounds[1], masks, {"weight": weight, "total": total, "index": index}
    )
    centred = how.factor * share - total
    if how.shared:
        weighted = _weighted(how, values, centred, opened, masks["weight"], given)
    else:
        weighted = centred * weight
    root, pattern = evaluate(how.windows, opened["index"], given["polynomials"], given["bits"])
    if leader:
        weighted += np.int64(how.weighted.bias)
        root += np.int64(how.windows.lift.bias)
    opened = yield from _open(
        party, rounds[2], masks, {"weighted": weighted, "values": root, "pattern": pattern}
    )
    values = _lifted(how.weighted, opened["weighted"], masks["weighted"], given.get("wraps"))
    root = choose(how.windows, opened["pattern"], opened["values"], given["choice"])
    opened = yield from _open(party, rounds[3], masks, {"root": root})
    scale = opened["root"] - masks["root"] if leader else -masks["root"]
    product = values.part * scale + values.mask * opened["root"] + given["product"]
    return product - values.wrapped(given["wraps"][2]) if how.weighted.wraps else product


def _squares(how: Few, values: _Lifted, share: Array, given: Tensors) -> Array:
    """Shares of factor sum(x^2) - sum(x)^2, or of sum(x^2): with x = u + m the dealer deals that of m alone."""
    part = values.part
    spread = how.factor * part - part.sum(axis=-1, keepdims=True) if how.centres else part
    total = (spread * (share + values.mask)).sum(axis=-1, keepdims=True) + given["squares"]
    if how.x.wraps:
        total -= values.wrapped(given["x_wraps"][2]).sum(axis=-1, keepdims=True) << np.int64(1)
    return total


def _weighted(
    how: Few, values: _Lifted, centred: Array, opened: Tensors, mask: Array, given: Tensors
) -> Array:
    """Shares of centred x times gamma, both known by their openings."""
    part = how.factor * values.part - opened["total"] if how.centres else values.part
    product = opened["weight"] * centred - mask * part + given["weighted"]
    if how.x.wraps:
        product -= how.factor * values.wrapped(given["x_wraps"][3])
    return product


def normalise(
    party: Party, how: Few, x: Rss, gamma: Rss | Array, beta: Rss | Array | None, out: Fxp
) -> Protocol[Rss]:
    """Few rows of x, centred and over the root of their squares as `how` says, times gamma plus beta.

    Ranges and meaning: those of the kernels. Error: `few_error`. Rounds: open x · windows · values · root · reshare: 5, one
    more into ring 64, two more for gamma or beta in smaller rings. Cost: `few_cost`. Security: x, gamma, sums, windows,
    values, bits, weighted values and the root are opened to A and B, each under a fresh mask that fills its container; what
    is dealt depends on masks alone. Source: own, with one-time truth tables (TinyTable, ePrint 2016/695).
    """
    shift = Fxp(_WIDE, how.product_bits)
    if isinstance(beta, Rss):
        shift = Fxp(_WIDE, min(beta.fxp.fraction_bits, how.product_bits))
    gamma, beta = yield from parallel(
        _widened(party.at("gamma"), gamma, how.weight), _widened(party.at("beta"), beta, shift)
    )
    product = None
    if party.role == "D":
        yield from _deal(party, how)
    else:
        weight = from_rss(party, gamma).share if isinstance(gamma, Rss) else encode(gamma, how.weight)
        share = from_rss(party, x).share.reshape(how.rows, how.length)
        product = (yield from _compute(party, how, share, weight)).reshape(x.shape)
        if isinstance(beta, Rss):
            product += from_rss(party, beta).share << np.int64(how.product_bits - shift.fraction_bits)
        elif beta is not None and party.role == "A":
            product += encode(beta, shift)
    fxp = Fxp(_WIDE, how.product_bits)
    return (yield from finish_additive(party.at("result"), Additive(product, x.shape, fxp), out))


def _widened(party: Party, value: Rss | Array | None, fxp: Fxp) -> Protocol[Any]:
    return (yield from convert(party, value, fxp)) if isinstance(value, Rss) else value


def few_cost(how: Few, shape: tuple[int, ...], gamma: Fxp | None, beta: Fxp | None, out: Fxp) -> Cost:
    """Cost of `normalise`."""
    cost, vector = Cost(), (how.length,)
    if gamma is not None:
        cost = convert_cost(vector, gamma, how.weight)
    if beta is not None:
        bits = min(beta.fraction_bits, how.product_bits)
        cost = cost | convert_cost(vector, beta, Fxp(_WIDE, bits))
    cost = cost + dealt(_size(_items(how)), 8)
    for opened in _rounds(how):
        cost = cost + exchanged(_size(opened), 8)
    return cost + finish_additive_cost(elements(shape), _WIDE, how.product_bits - out.fraction_bits, out)


def few_error(how: Few, x: Fxp, gamma: Fxp | None, span: tuple[float, float], out: Fxp) -> float:
    """Error bound of `normalise` for |gamma| <= 4; rows of the least variance decide."""
    (lo, hi), largest = span, math.sqrt(how.length)
    grid = 1.5 * x.ulp * 2.0**how.x.dropped if how.x.dropped else 0.0
    relative = how.windows.error + 1.5 * 2.0**-how.windows.root_bits * math.sqrt(hi) + grid / math.sqrt(lo)
    kept = how.product_bits - how.windows.root_bits
    weighted = 1.5 * 2.0**-kept / (how.shrunk * math.sqrt(lo)) if how.weighted.dropped else 0.0
    exact = gamma is not None and gamma.fraction_bits <= how.weight.fraction_bits
    weight = 0.0 if exact else how.weight.ulp * (0.5 if gamma is None else 1.5)
    scaled = 2 * grid / math.sqrt(lo) + largest * relative
    return _GAMMA_LIMIT * scaled + largest * weight + weighted + 1.5 * out.ulp
