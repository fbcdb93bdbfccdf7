"""Watch the last values of a program and open one bit about all values, in the rounds of one kernel.

A program ends with a kernel that takes many rounds, such as a normalisation. Its operands are known before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.guard.element_guard import guard_elements
from ditto_kernels.guard.one_bit import all_in_range
from ditto_kernels.guard.product_guard import guard_products
from ditto_kernels.guard.range_guard import Range, guard_ranges
from ditto_kernels.guard.spread_guard import Limit, guard_spreads
from ditto_kernels.guard.wraps import WRAPS
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

    Range, error: those of these kernels, and of `all_in_range`. Cost, security, source: theirs. The kernels
    share rounds, and `all_in_range` takes three more.
    """
    kinds = (
        ("products", guard_products, products, [3 + dict(each).get("shifted", False) for each in products]),
        ("items", guard_elements, items, [dict(each)["operands"] for each in items]),
        ("ranges", guard_ranges, ranges, [1 for _ in ranges]),
        ("limits", guard_spreads, limits, [1 for _ in limits]),
    )
    running, start = [], 0
    for name, protocol, told, sizes in kinds:
        if told:
            stop = start + sum(sizes)
            guard: Any = protocol
            running.append(guard(party.at(name), *operands[start:stop], out=WRAPS, **{name: told}))
            start = stop
    found = yield from parallel(*running)
    return (yield from all_in_range(party.at("bit"), *operands[start:], *found, out=out))


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
