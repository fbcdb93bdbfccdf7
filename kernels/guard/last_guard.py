"""Watch the last values of a program and open one bit about all values, in five rounds.

A program ends with a kernel that takes as many rounds, such as a normalisation. Its operands are known
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.element_guard import find_wraps_of_elements
from ditto_kernels.guard.one_bit import ANSWER, one_bit, out_of_range
from ditto_kernels.guard.product_guard import find_wraps
from ditto_kernels.guard.random_sums import draw_seed
from ditto_kernels.guard.range_guard import Range, find_outside
from ditto_kernels.guard.spread_guard import Limit, compare_spreads, count_spreads
from ditto_kernels.guard.wraps import WRAPS, Found
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

Attributes = Sequence[tuple[str, Any]]


def guard_last(
    party: Party,
    *operands: Any,
    out: Fxp,
    products: Sequence[Attributes] = (),
    items: Sequence[Attributes] = (),
    ranges: Sequence[Range] = (),
    limits: Sequence[Limit] = (),
) -> Protocol[Rss]:
    """Return 0 if everything is in range, and a random number otherwise.

    operands: those of `guard_products`, then those of `guard_elements`, `guard_ranges` and `guard_spreads`,
        with their attributes, and then results of such kernels. Returns `out` = fxp64.0 [1].

    Range, error: those of these kernels, and of `one_bit`. Security, source: theirs. Cost: theirs, but counts
    are opened at once instead of reshared. That takes 5 rounds, or 3 if no sum is truncated or lifted. Exact
    comparisons run beside it.
    """
    if out != ANSWER:
        raise ValueError(f"the answer is in {ANSWER}")
    sizes = (
        sum(3 + dict(each).get("shifted", False) for each in products),
        sum(dict(each)["operands"] for each in items),
        len(ranges),
        len(limits),
    )
    parts, start = [], 0
    for size in sizes:
        parts.append(operands[start : start + size])
        start += size
    wraps = operands[start:]
    if any(each.fxp != WRAPS for each in wraps):
        raise ValueError(f"counts of wraps are in {WRAPS}")
    of_products, of_items, of_ranges, of_limits = parts
    seed = yield from draw_seed(party)

    def counting() -> Protocol[list[Array]]:
        running = []
        if products:
            running.append(find_wraps(party.at("products"), seed, of_products, products))
        if items:
            running.append(find_wraps_of_elements(party.at("items"), seed, of_items, items))
        found: list[Found] = yield from parallel(*running)
        if limits:
            found.append(count_spreads(party, seed, of_limits, limits))
        outside = [bits for each in found for bits in each.outside]
        counts = [each.counts for each in found]
        if counts or wraps:
            outside.append((yield from out_of_range(party.at("bit"), counts, wraps)))
        return outside

    outside = yield from parallel(
        counting(),
        find_outside(party.at("ranges"), of_ranges, ranges),
        compare_spreads(party.at("limits"), seed, of_limits, limits),
    )
    return (yield from one_bit(party.at("bit"), [bits for each in outside for bits in each]))


def _reference(*operands: Array, **attributes: Sequence[Any]) -> NDArray[Any]:
    """Return 0 where all is in range. Other numbers are random, so the reference has 1."""
    wraps = () if attributes else operands
    return np.array([float(any(bool((np.abs(each) >= 0.5).any()) for each in wraps))])


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.0


GUARD_BIT = Kernel(
    "guard_bit",
    guard_last,
    _reference,
    _error,
    "Naor, Naor 1990, on shares; our own",
    all_deal=True,
    keeps_public=True,
)
