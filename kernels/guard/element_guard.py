"""Tell in shares whether elements of elementwise products, scaled values and casts wrapped.

An element of a product x*w that leaves its ring comes back shifted. x times w with fewer bits, less the
result, shows that, and groups of elements are summed with random coefficients. A cast is a product with 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.lifted_sums import lifted_sums
from ditto_kernels.guard.random_sums import draw_seed, few_coefficients, rounded, weighted
from ditto_kernels.guard.top_bits import LIMBS
from ditto_kernels.guard.wraps import WRAPS, Found, Shown, counted, raised, reshared, shown
from ditto_kernels.products.multiply import local_product
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import from_rss
from ditto_kernels.sharing.casts import truncate_additive
from ditto_kernels.values.formats import Array, Fxp, encode
from ditto_kernels.values.replicated import Rss

GROUP = 16  # so many elements are summed
REPEATS = 3  # so many sums of every group, each with coefficients of its own
Attributes = Sequence[tuple[str, Any]]


def how_shown(
    x: Any,
    w: Any | None,
    y: Any,
    *,
    range: float | None = None,
    weight_fraction_bits: int | None = None,
    within: float | None = None,
) -> Shown | None:
    """Return how wraps of elements show, or None where none can be seen.

    x, w, y: operands and result, or their `Spec`; see `guard_elements`. w is None for a cast.
    """
    factor = weight_fraction_bits if weight_fraction_bits is not None else 0
    bits = x.fxp.fraction_bits + (w.fxp.fraction_bits if w is not None and w.fxp is not None else factor)
    how = shown(x.fxp.ring_bits, bits, y.fxp, range, within=within)
    return None if how is not None and w is None and how.shift else how  # 1 has no bits to drop


def guard_elements(party: Party, *operands: Any, out: Fxp, items: Sequence[Attributes]) -> Protocol[Rss]:
    """Return for every group of elements how many wraps random sums of them have.

    operands: of each item x, w and the result y, or x and y of a cast. w is shared, or a public array.
    items: the attributes of each: "operands", which is 2 or 3; "range", the declared range of a `multiply`;
        "weight_fraction_bits" of a public w; "within", the magnitude from which on a result in a narrower
        ring is refused, by default the limit of its format.
    Returns `out` = fxp16.9 [sums + 4] with 3 sums for every 16 elements, and the numbers of `lifted_sums`.

    Range: the Euclidean norm of 16 elements of x, as ring elements, below 2^(k - 12), where y was truncated
    or lifted. A result in a narrower ring lies below its bound less 3/16 of its format's limit. Beyond, right
    results count as wrapped. Error: less than half a wrap.

    Misses: a number of wraps that is a multiple of 128. One element with any other number is always found.
    Two in the same group with as many wraps cancel with probability 1/512.

    Cost: 2k + 4w bits for an element of a shared w, 9 bits an element for the sums, and those of
    `lifted_sums`; 3 rounds. Security: the coefficients are public and independent of every value. All else is
    masked as in `truncate` and `finish`. Source: as `guard_products`.
    """
    if out != WRAPS:
        raise ValueError(f"wraps are counted in {WRAPS}")
    seed = yield from draw_seed(party)
    found = yield from find_wraps_of_elements(party, seed, operands, items)
    return (yield from reshared(party, [found]))


def find_wraps_of_elements(
    party: Party, seed: Array, operands: Sequence[Any], items: Sequence[Attributes]
) -> Protocol[Found]:
    """Do `guard_elements` up to its last round. seed: public, see `draw_seed`."""
    found = [*_triples(operands, items)]
    factors = few_coefficients(seed, GROUP, REPEATS)
    (shorts, (sums, outside)) = yield from parallel(
        parallel(*(_short(party.at(f"short{n}"), *each) for n, each in enumerate(found))),
        _sums_of_results(party, found, factors),
    )
    differences = [
        (weighted(_groups(short), factors) - raised(total, how), how.low)
        for short, total, (_, _, _, how, _) in zip(shorts, sums, found, strict=True)
    ]
    return Found(counted(party, differences), outside)


_Item = tuple[Rss, Any, Rss, Shown, dict[str, Any]]


def _triples(operands: Sequence[Any], items: Sequence[Attributes]) -> Iterator[_Item]:
    start = 0
    for place, attributes in enumerate(items):
        plain = dict(attributes)
        count = plain.pop("operands")
        x, w, y = operands[start], operands[start + 1] if count == 3 else None, operands[start + count - 1]
        spec = w if w is None or isinstance(w, Rss) else Spec(np.shape(w), None)
        how = how_shown(x, spec, y, **plain)
        if how is None or count not in (2, 3):
            raise ValueError(f"the wraps of item {place} cannot be seen")
        yield x, w, y, how, plain
        start += count


def _short(party: Party, x: Rss, w: Any, y: Rss, how: Shown, plain: dict[str, Any]) -> Protocol[Array]:
    """Return this party's 3-of-3 share of x times w without its lowest bits."""
    if w is None:
        return x.mine
    if not isinstance(w, Rss):
        public = encode(np.broadcast_to(w, x.shape), Fxp(how.ring, plain["weight_fraction_bits"]))
        return x.mine * rounded(public, how.shift)
    short = w
    if how.shift:
        short = yield from truncate_additive(party, from_rss(party, _wide(w)), how.shift)
    return local_product(x, short)


def _wide(x: Rss) -> Rss:
    """Return the same ring elements with enough fraction bits to drop any."""
    return Rss(x.mine, x.next, Fxp(x.fxp.ring_bits, x.fxp.ring_bits - 1))


def _groups(values: Array) -> Array:
    """Return ring elements as (1, groups, GROUP), filled with zeros."""
    flat = values.reshape(-1)
    spare = -math.prod(flat.shape) % GROUP
    padded = np.concatenate([flat, np.zeros(spare, flat.dtype)]) if spare else flat
    return padded.reshape(1, -1, GROUP)


def _sums_of_results(
    party: Party, found: Sequence[_Item], factors: Array
) -> Protocol[tuple[list[Array], list[Array]]]:
    """Return 3-of-3 shares of the sums of the results, and bits of those elements that do not lift."""
    totals: list[Any] = [None] * len(found)
    outside = []
    results = [Rss(_groups(y.mine), _groups(y.next), y.fxp) for _, _, y, _, _ in found]
    for place, (*_, how, _) in enumerate(found):
        if not how.lifted:
            totals[place] = weighted(results[place].mine, factors)
    lifted = [place for place, (*_, how, _) in enumerate(found) if how.lifted]
    lifted.sort(key=lambda place: results[place].fxp.ring_bits)
    for _, group in groupby(lifted, lambda place: results[place].fxp.ring_bits):
        places = [*group]
        of_group, outside_of_group = yield from lifted_sums(
            party.at(f"lift{places[0]}"),
            [results[place] for place in places],
            [found[place][3].ring for place in places],
            [factors for _ in places],
            [found[place][3].bound for place in places],
        )
        outside.append(outside_of_group)
        for place, total in zip(places, of_group, strict=True):
            totals[place] = total
    return totals, outside


def counts_of(operands: Sequence[Any], items: Sequence[Attributes]) -> int:
    """Return how many numbers `guard_elements` returns for operands of these shapes."""
    total, start = LIMBS, 0
    for attributes in items:
        total += -(-math.prod(operands[start].shape) // GROUP) * REPEATS
        start += dict(attributes)["operands"]
    return total


def _reference(*operands: Array, items: Sequence[Attributes]) -> NDArray[Any]:
    """Return zeros: no element of a right result wraps."""
    return np.zeros(counts_of(operands, items))


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.5


ELEMENT_GUARD = Kernel(
    "element_guard",
    guard_elements,
    _reference,
    _error,
    "Freivalds 1977, on shares; our own",
    all_deal=True,
)
