"""Tell in shares whether elements of products wrapped, by sums of their columns with random coefficients.

A product XW that leaves its ring comes back shifted by a multiple of a power of two. With public random
coefficients e, X(We) and (XW)e are equal, but the left side takes one short product of its own. We is dropped
to fewer bits first, so that the ring holds more of X(We) than of XW. An element that wrapped then shifts the
difference of its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.lifted_sums import lifted_sums
from ditto_kernels.guard.random_sums import (
    REPEATS,
    Coefficients,
    coefficients,
    draw_seed,
    rounded,
    rows,
    sizes,
    weighted,
)
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.watched_product import (
    Attributes,
    Item,
    Part,
    Products,
    Watched,
    each_product,
    planned,
)
from ditto_kernels.guard.wraps import WRAPS, Found, counted, raised, reshared
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive
from ditto_kernels.sharing.casts import truncate_additive
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp, encode, signed
from ditto_kernels.values.replicated import Known, Rss

_Factors = Mapping[int, Coefficients]  # by the number of elements in a sum


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
    if out != WRAPS:
        raise ValueError(f"wraps are counted in {WRAPS}")
    seed = yield from draw_seed(party)
    found = yield from find_wraps(party, seed, operands, products)
    return (yield from reshared(party, [found]))


def find_wraps(
    party: Party, seed: Array, operands: Sequence[Any], products: Sequence[Attributes]
) -> Protocol[Found]:
    """Do `guard_products` up to its last round. seed: public, see `draw_seed`."""
    first: dict[int, int] = {}
    same = tuple([first.setdefault(id(each), place) for place, each in enumerate(operands)])
    specs = tuple([Spec(each.shape, getattr(each, "fxp", None)) for each in operands])
    plan = planned(specs, same, tuple(products))
    factors = coefficients(seed, [each.watched.summed for each in plan.items])
    shorts, (sums, outside) = yield from parallel(
        _short_operands(party, plan, operands, factors), _sums_of_results(party, plan, operands, factors)
    )
    differences = [
        (product - raised(total, each.how), each.how.low)
        for product, total, each in zip(_with_others(plan, operands, shorts), sums, plan.items, strict=True)
    ]
    return Found(counted(party, differences), outside)


def _short_operands(
    party: Party, plan: Products, operands: Sequence[Any], factors: _Factors
) -> Protocol[list[Rss | Array]]:
    """Return the sums of each summed operand, dropped by its shift: public ones, or shares of them.

    Their shape is (batch, REPEATS, terms).
    """
    shorts: list[Any] = [None] * len(plan.items)
    for number, item in enumerate(plan.items):
        one, how, some = operands[item.one], item.watched, factors[item.watched.summed]
        if how.public_bits is not None:
            shorts[number] = rounded(_public_sums(how, one, some), how.how.shift)
        elif not how.how.shift:
            mine, following = (_short(how, each, some.whole) for each in (one.mine, one.next))
            shorts[number] = Rss(mine, following, _wide(how))
    truncated = yield from parallel(
        *(
            truncate_additive(
                party.at(f"sums{group[0]}"),
                _two_shares(party, [plan.items[each] for each in group], operands, factors),
                plan.items[group[0]].how.shift,
            )
            for group in plan.short
        )
    )
    for group, whole in zip(plan.short, truncated, strict=True):
        start = 0
        for number in group:
            how = plan.items[number].watched
            stop = start + how.batch * REPEATS * how.terms
            part = Rss(whole.mine[start:stop], whole.next[start:stop], whole.fxp)
            shorts[number] = part.reshape((how.batch, REPEATS, how.terms))
            start = stop
    return shorts


def _wide(how: Watched) -> Fxp:
    """Return the ring of a product with enough fraction bits for any shift."""
    return Fxp(how.how.ring, how.how.ring - 1)


def _public_sums(how: Watched, one: Any, factors: Coefficients) -> Array:
    """Return the sums of a public operand. One that serves many requests keeps those for the base."""
    assert how.public_bits is not None
    fxp, form = (
        Fxp(how.how.ring, how.public_bits),
        ("guard", how.how.ring, how.public_bits, how.dims, how.right),
    )
    if not isinstance(one, Known):
        return _short(how, encode(one, fxp), factors.whole)
    if form not in one.prepared:
        one.prepared[form] = _short(how, encode(one.value, fxp), factors.base)
    return _mixed(one.prepared[form], factors)


def _short(how: Watched, component: Array, factors: Array) -> Array:
    return weighted(rows(component, how.dims, not how.right).swapaxes(1, 2), factors)


def _mixed(kept: Array, factors: Coefficients) -> Array:
    """Return the sums for all coefficients from those for the base."""
    return weighted(kept.swapaxes(1, 2), factors.mix)


def _two_shares(party: Party, items: Sequence[Item], operands: Sequence[Any], factors: _Factors) -> Additive:
    """Return the 2-of-2 sharing of the sums of several operands, one behind the other."""
    wide = _wide(items[0].watched)
    if party.role == "D":
        size = sum(item.watched.batch * REPEATS * item.watched.terms for item in items)
        return Additive(absent((size,), signed(wide.ring_bits)), wide)
    parts = [
        _two_sums(party, item.watched, operands[item.one], factors[item.watched.summed]).reshape(-1)
        for item in items
    ]
    return Additive(np.concatenate(parts) if len(parts) > 1 else parts[0], wide)


def _two_sums(party: Party, how: Watched, one: Rss, factors: Coefficients) -> Array:
    """Return A's or B's sums. Weights that serve many requests keep theirs for the base."""
    components = (one.mine, one.next) if party.role == "A" else (one.next,)

    def total(some: Array) -> Array:
        first, *others = [_short(how, each, some) for each in components]
        return first + others[0] if others else first

    if one.prepared is None:
        return total(factors.whole)
    form = ("guard", party.role, how.dims, how.right)
    if form not in one.prepared:
        one.prepared[form] = total(factors.base)
    return _mixed(one.prepared[form], factors)


def _with_others(plan: Products, operands: Sequence[Any], shorts: Sequence[Rss | Array]) -> list[Array]:
    """Return this party's 3-of-3 shares of the products of the other operands with the short ones.

    Products that read one operand alike, such as queries, keys and values, read it once.
    """
    results: list[Any] = [None] * len(plan.items)
    for group in plan.alike:
        item, several = plan.items[group[0]], [shorts[number] for number in group]
        how, other = item.watched, operands[item.other]
        mine = rows(other.mine, how.dims, how.right)
        near = _joined([each.mine if isinstance(each, Rss) else each for each in several])
        if isinstance(several[0], Rss):
            far = _joined([each.next for each in several if isinstance(each, Rss)])
            following = rows(other.next, how.dims, how.right)
            total = weighted(mine, near + far) + weighted(following, near)
        else:
            total = weighted(mine, near)
        for place, number in enumerate(group):
            results[number] = total[:, place * REPEATS : (place + 1) * REPEATS]
    return results


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


def _sums_of_results(
    party: Party, plan: Products, operands: Sequence[Any], factors: _Factors
) -> Protocol[tuple[list[Array], list[Array]]]:
    """Return this party's 3-of-3 shares of the sums of the results, in the bits of the result.

    Also return the bits that tell which elements do not lift (`lifted_sums`).
    """
    totals: list[Any] = [
        None
        if item.how.lifted
        else weighted(_result(item.watched, operands[item.y].mine), factors[item.watched.summed].whole)
        for item in plan.items
    ]
    made = yield from parallel(
        *(
            lifted_sums(
                party.at(f"lift{group[0].product}"),
                [_lifted(plan, part, operands) for part in group],
                [plan.items[part.product].how.ring for part in group],
                [factors[plan.items[part.product].watched.summed].whole for part in group],
                [part.bound for part in group],
            )
            for group in plan.lifted
        )
    )
    for group, (of_group, _) in zip(plan.lifted, made, strict=True):
        for part, total in zip(group, of_group, strict=True):
            before = totals[part.product]
            totals[part.product] = total if before is None else before - total
    return totals, [outside for _, outside in made]


def _lifted(plan: Products, part: Part, operands: Sequence[Any]) -> Rss:
    """Return elements (batch, rows, summed): those of a result, or of a row that was added to it."""
    item, y = plan.items[part.product], operands[part.place]
    if part.place == item.row:
        return Rss(y.mine.reshape(1, 1, -1), y.next.reshape(1, 1, -1), y.fxp)
    return Rss(_result(item.watched, y.mine), _result(item.watched, y.next), y.fxp)


def _result(how: Watched, component: Array) -> Array:
    """Return a component of a result as (batch, counted, summed)."""
    if how.right:
        return component.reshape(how.batch, how.counted, how.summed)
    return component.reshape(how.batch, how.summed, how.counted).swapaxes(1, 2)


def sums_of(operands: Sequence[Any], products: Sequence[Attributes]) -> int:
    """Return how many numbers `guard_products` returns for operands of these shapes."""
    total = LIMBS
    for start, _, plain in each_product(products):
        x, w = (each.shape for each in operands[start : start + 2])
        batch, left, right, _ = sizes(*((w, x) if plain.get("public_left") else (x, w)), plain["dims"])
        total += batch * (left if plain.get("summed", "right") == "right" else right) * REPEATS
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
