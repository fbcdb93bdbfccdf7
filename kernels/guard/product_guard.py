"""Tell in shares whether elements of products wrapped, by sums of their columns with random coefficients.

A product XW that leaves its ring comes back shifted by a multiple of a power of two. With public random
coefficients e, X(We) and (XW)e are equal, but the left side takes one short product of its own. We is dropped
to fewer bits first, so that the ring holds more of X(We) than of XW. An element that wrapped then shifts the
difference of its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.lifted_sums import lifted_sums
from ditto_kernels.guard.random_sums import (
    REPEATS,
    Coefficients,
    coefficients,
    rounded,
    rows,
    sizes,
    weighted,
)
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.watched_product import Watched, watched
from ditto_kernels.guard.wraps import WRAPS, counted, raised
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive
from ditto_kernels.sharing.casts import truncate_additive
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Known, Rss

Attributes = Sequence[tuple[str, Any]]


def guard_products(party: Party, *operands: Any, out: Fxp, products: Sequence[Attributes]) -> Protocol[Rss]:
    """Return for every row (or column) of products how many wraps a random sum of its elements has.

    operands: x, w and y of each product: operands and result of `matmul` or `matmul_public`.
    products: the attributes of each, with "summed": the operand whose free dimension is summed, which is
        "right" for one sum a row. A public operand is the summed one. "within" is the magnitude from which on
        a result in a narrower ring than its operands is refused, by default the limit of its format.
        "shifted" says that y is such a result after a row was added to all its rows. The row, of y's format
        and at most half of its limit in magnitude, is the next operand, and "within" is about the sum.
    Returns `out` = fxp16.9 [sums + 4], with REPEATS sums a row: the sum of e_j t_j modulo 2^7, for odd
    coefficients e_j and the wraps t_j of the elements. The last four are zero, or random if a result in a
    narrower ring than the operands leaves the range in which it lifts. All are in units of one wrap.

    Range: a sum of the summed operand lies below a quarter of the ring, and the Euclidean norm of a row of
    the other one, as ring elements, below 2^(k - 10). A result in a narrower ring lies below its bound less
    3/16 of its format's limit. Beyond, right products count as wrapped. Error: less than half a wrap.

    Misses: a number of wraps that is a multiple of 128. One element with any other number is always found.
    Two in the same row cancel with probability 1/50 a repetition, or less.

    Cost: 2k + 4w bits for an element of the short operands, 48 for each sum, and those of `lifted_sums`; 3
    rounds. Security: the coefficients are public and independent of every value. All else is masked as
    in `truncate` and `finish`. Source: Freivalds (1977) verifies products like this; counting wraps is ours.
    """
    found = _all_watched(operands, products)
    if out != WRAPS:
        raise ValueError(f"wraps are counted in {WRAPS}")
    factors = yield from coefficients(party, [each.summed for each in found])
    (shorts, (sums, near)) = yield from parallel(
        _short_operands(party, found, factors), _sums_of_results(party, found, factors)
    )
    differences = [
        (product - total, each.how.low)
        for product, total, each in zip(_with_others(found, shorts), sums, found, strict=True)
    ]
    return (yield from counted(party, differences, near))


def _all_watched(operands: Sequence[Any], products: Sequence[Attributes]) -> list[Watched]:
    found = []
    for place, (used, plain) in enumerate(_each(operands, products)):
        row = used[3] if len(used) > 3 else None
        each = watched(*used[:3], **plain, row=row)
        if each is None or (row is not None and not (each.right and each.how.lifted)):
            raise ValueError(f"the wraps of product {place} cannot be seen")
        found.append(each)
    return found


def _each(
    operands: Sequence[Any], products: Sequence[Attributes]
) -> Iterator[tuple[Sequence[Any], dict[str, Any]]]:
    """Yield the operands and the other attributes of each product."""
    start = 0
    for attributes in products:
        plain = dict(attributes)
        stop = start + 3 + plain.pop("shifted", False)
        yield operands[start:stop], plain
        start = stop


def _short_operands(
    party: Party, found: Sequence[Watched], factors: Sequence[Coefficients]
) -> Protocol[list[Rss | Array]]:
    """Return the sums of each summed operand, dropped by its shift: public ones, or shares of them."""
    shorts: list[Any] = [None] * len(found)
    additive: dict[int, Additive] = {}
    for place, (each, some) in enumerate(zip(found, factors, strict=True)):
        wide = Fxp(each.how.ring, each.how.ring - 1)  # enough fraction bits for any shift
        if each.public_bits is not None:
            shorts[place] = rounded(_public_sums(each, some), each.how.shift)
        elif each.how.shift:
            additive[place] = _two_shares(party, each, some, wide)
        else:
            mine, following = (_short(each, part, some.whole) for part in (each.one.mine, each.one.next))
            shorts[place] = Rss(mine, following, wide)
    alike = sorted(additive, key=lambda place: (found[place].how.ring, found[place].how.shift))
    groups = [
        [*group] for _, group in groupby(alike, lambda place: (found[place].how.ring, found[place].how.shift))
    ]
    truncated = yield from parallel(
        *(
            truncate_additive(
                party.at(f"sums{group[0]}"),
                _joined([additive[place] for place in group]),
                found[group[0]].how.shift,
            )
            for group in groups
        )
    )
    for group, all_of in zip(groups, truncated, strict=True):
        for place, part in zip(group, _apart(all_of, [additive[place] for place in group]), strict=True):
            shorts[place] = part
    return shorts


def _public_sums(each: Watched, factors: Coefficients) -> Array:
    """Return the sums of a public operand. One that serves many requests keeps those for the base."""
    assert each.public_bits is not None
    fxp, form = (
        Fxp(each.how.ring, each.public_bits),
        ("guard", each.how.ring, each.public_bits, each.dims, each.right),
    )
    if not isinstance(each.one, Known):
        return _short(each, encode(each.one, fxp), factors.whole)
    if form not in each.one.prepared:
        each.one.prepared[form] = _short(each, encode(each.one.value, fxp), factors.base)
    return weighted(each.one.prepared[form], factors.mix)


def _short(each: Watched, component: Array, factors: Array) -> Array:
    return weighted(rows(component, each.dims, not each.right).swapaxes(1, 2), factors)


def _two_shares(party: Party, each: Watched, factors: Coefficients, fxp: Fxp) -> Additive:
    """Return the 2-of-2 sharing of the sums. Weights that serve many requests keep theirs for the base."""
    kept, form = each.one.prepared, ("guard", party.role, each.dims, each.right)
    if kept is None or party.role == "D":
        return Additive(_two_sums(party, each, factors.whole), fxp)
    if form not in kept:
        kept[form] = _two_sums(party, each, factors.base)
    return Additive(weighted(kept[form], factors.mix), fxp)


def _two_sums(party: Party, each: Watched, factors: Array) -> Array:
    if party.role == "A":
        return _short(each, each.one.mine, factors) + _short(each, each.one.next, factors)
    return _short(
        each, each.one.next if party.role == "B" else absent(each.one.shape, each.one.mine.dtype), factors
    )


def _joined(parts: Sequence[Additive]) -> Additive:
    return Additive(np.concatenate([each.share.reshape(-1) for each in parts]), parts[0].fxp)


def _apart(whole: Rss, like: Sequence[Additive]) -> Iterator[Rss]:
    start = 0
    for each in like:
        stop = start + each.size
        yield Rss(whole.mine[start:stop], whole.next[start:stop], whole.fxp).reshape(each.shape)
        start = stop


def _with_others(found: Sequence[Watched], shorts: Sequence[Rss | Array]) -> list[Array]:
    """Return this party's 3-of-3 shares of the products of the other operands with the short ones.

    Products that read one operand alike, such as queries, keys and values, read it once.
    """
    results: list[Any] = [None] * len(found)
    alike: dict[Any, list[int]] = {}
    for place, (each, short) in enumerate(zip(found, shorts, strict=True)):
        alike.setdefault((id(each.other), each.dims, each.right, type(short)), []).append(place)
    for places in alike.values():
        first, several = found[places[0]], [shorts[place] for place in places]
        mine = rows(first.other.mine, first.dims, first.right)
        near = np.concatenate([each.mine if isinstance(each, Rss) else each for each in several], axis=-1)
        if isinstance(several[0], Rss):
            far = np.concatenate([each.next for each in several if isinstance(each, Rss)], axis=-1)
            following = rows(first.other.next, first.dims, first.right)
            total = weighted(mine, near + far) + weighted(following, near)
        else:
            total = weighted(mine, near)
        for number, place in enumerate(places):
            results[place] = total[..., number * REPEATS : (number + 1) * REPEATS]
    return results


def _sums_of_results(
    party: Party, found: Sequence[Watched], factors: Sequence[Coefficients]
) -> Protocol[tuple[list[Array], Array]]:
    """Return this party's 3-of-3 shares of the sums of the results, in the bits of the product.

    Also return its share of whether all results lift (`lifted_sums`).
    """
    near = np.zeros(LIMBS, WRAPS.dtype)
    totals: list[Any] = [
        None if each.how.lifted else weighted(_result(each).mine, some.whole)
        for each, some in zip(found, factors, strict=True)
    ]
    parts = [part for place, each in enumerate(found) if each.how.lifted for part in _lifted(each, place)]
    parts.sort(key=lambda part: part.y.fxp.ring_bits)
    groups = [[*group] for _, group in groupby(parts, lambda part: part.y.fxp.ring_bits)]
    made = yield from parallel(
        *(
            lifted_sums(
                party.at(f"lift{group[0].place}"),
                [part.y for part in group],
                [found[part.place].how.ring for part in group],
                [factors[part.place].whole for part in group],
                [part.bound for part in group],
            )
            for group in groups
        )
    )
    for group, (of_group, near_of_group) in zip(groups, made, strict=True):
        near = near + near_of_group
        for part, total in zip(group, of_group, strict=True):
            before = totals[part.place]
            totals[part.place] = total if before is None else before - total
    return [raised(total, each.how) for total, each in zip(totals, found, strict=True)], near


class _Part(NamedTuple):
    """Elements (batch, rows, summed) that are lifted: a result, or a row that is subtracted from its sums."""

    place: int
    y: Rss
    bound: float


def _lifted(each: Watched, place: int) -> Iterator[_Part]:
    yield _Part(place, _result(each), each.how.bound)
    if each.row is not None:
        yield _Part(place, each.row.reshape((1, 1, -1)), each.row.fxp.limit / each.row.fxp.ulp)


def _result(each: Watched) -> Rss:
    """Return the result as (batch, counted, summed)."""
    y = each.y.reshape(each.sizes)
    return y if each.right else Rss(y.mine.swapaxes(1, 2), y.next.swapaxes(1, 2), y.fxp)


def sums_of(operands: Sequence[Any], products: Sequence[Attributes]) -> int:
    """Return how many numbers `guard_products` returns for operands of these shapes."""
    total = LIMBS
    for (x, w, *_), attributes in _each(operands, products):
        pair = (w, x) if attributes.get("public_left") else (x, w)
        batch, left, right = sizes(*pair, attributes["dims"])
        total += batch * (left if attributes.get("summed", "right") == "right" else right) * REPEATS
    return total


def _reference(*operands: Array, products: Sequence[Attributes]) -> NDArray[Any]:
    """Return zeros: no element of a right product wraps."""
    return np.zeros(sums_of(operands, products))


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.5


PRODUCT_GUARD = Kernel(
    "product_guard",
    guard_products,
    _reference,
    _error,
    "Freivalds 1977, on shares; our own",
    all_deal=True,
    keeps_public=True,
)
