"""Tell in shares whether values lie in their ranges: by a few cells of the ring, or by exact comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto_kernels.bits.bit_planes import word_count
from ditto_kernels.bits.signs import signs
from ditto_kernels.guard.top_bits import LIMBS, cells_within, own_number, top_bits
from ditto_kernels.guard.wraps import WRAPS, Found, reshared
from ditto_kernels.protocol.kernel import Kernel, Spec
from ditto_kernels.protocol.party import Party, Protocol, parallel
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked
from ditto_kernels.values.absent import absent
from ditto_kernels.values.formats import Array, Fxp
from ditto_kernels.values.replicated import Rss

_LEAST = 32  # so many bytes of bits at least, so that A's shares of the parities are uniform
Range = tuple[float, float] | tuple[float, float, float]  # its ends, and the least magnitude if there is one


def fine(ring: int) -> int:
    """Return how many of the highest bits tell the cells: narrow rings have less room to spare."""
    return 4 if ring <= 16 else 3


def coarse(range: Range, fxp: Fxp) -> bool:
    """Tell whether cells serve for a range: it is symmetric, and at least four cells wide."""
    low, high = range[:2]
    try:
        cells_within(high / fxp.ulp, fxp.ring_bits, fine(fxp.ring_bits))
    except ValueError:
        return False
    return low == -high and len(range) == 2


def admitted(range: Range, fxp: Fxp) -> tuple[float, float]:
    """Return the ends of the range of values that are never refused."""
    if not coarse(range, fxp):
        return range[:2]
    size = 2.0 ** (fxp.ring_bits - fine(fxp.ring_bits))
    most = (cells_within(range[1] / fxp.ulp, fxp.ring_bits, fine(fxp.ring_bits)).count / 2 - 1) * size
    return -most * fxp.ulp, most * fxp.ulp


def guard_ranges(party: Party, *values: Rss, out: Fxp, ranges: Sequence[Range]) -> Protocol[Rss]:
    """Return 0 if every value lies in its range, and random numbers otherwise.

    values: of any shapes and formats. ranges: the least and the largest number of each, in real units,
        and perhaps the least magnitude.
    Returns `out` = fxp16.9 [4]. If any value is out of range, one of them is at least 1/2 in magnitude, but
    with probability 2^-32.

    Range: any residue of the ring. A value that left the ring counts as what came of it. A symmetric range
    that is wide enough for it (`coarse`) is told by cells of an eighth of the ring, or of a sixteenth in
    rings up to 16 bits. Values beyond such a range are always refused, and so may be those that are closer to
    its end than a cell and a half (`admitted`). Other ranges are exact. Error: none.

    Cost: 8 or 16 bits an element with cells, in 2 rounds. Exact ranges cost 300 bits an element in ring 32,
    and take 4 rounds. Security: values are opened under full-width masks, highest bits leave under a stream
    of D and B, and the result is reshared under a zero share. Source: our own; comparisons as in `signs`.
    """
    if out != WRAPS:
        raise ValueError(f"the answer is in {WRAPS}")
    outside = yield from find_outside(party, values, ranges)
    return (yield from reshared(party, [Found(np.zeros(0, WRAPS.dtype), outside)]))


def find_outside(party: Party, values: Sequence[Rss], ranges: Sequence[Range]) -> Protocol[list[Array]]:
    """Do `guard_ranges` up to its last round. Returns packed XOR shares at A and B of bits out of range."""
    if len(values) != len(ranges):
        raise ValueError("each value has a range")
    rough = [(x, r) for x, r in zip(values, ranges, strict=True) if coarse(r, x.fxp)]
    rough.sort(key=lambda pair: pair[0].fxp.ring_bits)
    groups = [[*group] for _, group in groupby(rough, key=lambda pair: pair[0].fxp.ring_bits)]
    exact = [(x, r) for x, r in zip(values, ranges, strict=True) if not coarse(r, x.fxp)]
    found: list[Array] = yield from parallel(
        *(_by_cells(party.at(f"cells{place}"), group) for place, group in enumerate(groups)),
        *(compared(party.at(f"exact{place}"), *pair) for place, pair in enumerate(exact)),
    )
    return found


def _by_cells(party: Party, group: Sequence[tuple[Rss, Range]]) -> Protocol[Array]:
    ring = group[0][0].fxp.ring_bits
    cells = [cells_within(range[1] / x.fxp.ulp, ring, fine(ring)) for x, range in group]
    numbers = [own_number(party, x, each.bias) for (x, _), each in zip(group, cells, strict=True)]
    tops = yield from top_bits(party, numbers, fine(ring))
    outside, _ = tops.read([each.count for each in cells])
    return outside


def compared(party: Party, x: Rss, range: Range) -> Protocol[Array]:
    """Return packed XOR shares at A and B of bits that tell which elements are out of range, exactly.

    The value is moved first, so that the padding, which is zero, is in range.
    """
    ring, ulp, most = x.fxp.ring_bits, x.fxp.ulp, 2.0 ** (x.fxp.ring_bits - 2)
    low, high = math.ceil(max(range[0] / ulp, -most)), math.floor(min(range[1] / ulp, most))
    least = math.ceil(range[2] / ulp) if len(range) == 3 else 0
    middle = least or (low + high) // 2
    flat = from_rss(party, x).share.reshape(-1)
    size = flat.shape[0]
    spare = max(word_count(size, ring) * ring, 8 * _LEAST) - size
    if party.role == "D":
        share = absent((size + spare,), x.fxp.dtype)
    else:
        moved = flat - np.asarray(middle).astype(x.fxp.dtype) if party.role == "A" else flat
        share = np.concatenate([moved, np.zeros(spare, x.fxp.dtype)])
    opened = yield from open_masked(party, Additive(share, x.fxp))
    ends = [middle - low, middle - high - 1, *((middle - least, middle + least - 1) if least else ())]
    bits = yield from signs(party.at("signs"), opened, ends)
    below, inside, *around = bits.words
    outside = [below, ~inside if party.role == "A" else inside]
    if around:  # below the hole's upper end, but not below its lower one
        outside.append(around[0] ^ around[1])
    return np.concatenate(outside).view(np.uint8)


def _reference(*values: Array, ranges: Sequence[Range]) -> NDArray[Any]:
    """Return 0 where all is in range. Other numbers are random, so the reference has ones."""
    outside = False
    for value, (low, high, *least) in zip(values, ranges, strict=True):
        outside |= bool(((value < low) | (value > high) | (np.abs(value) < sum(least))).any())
    return np.full(LIMBS, float(outside))


def _error(*_: Spec, out: Fxp, **__: Any) -> float:
    return 0.0


RANGE_GUARD = Kernel(
    "range_guard",
    guard_ranges,
    _reference,
    _error,
    "our own",
    all_deal=True,
)
