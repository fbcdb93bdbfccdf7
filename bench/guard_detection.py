"""Measure how many seeded overflows the guard finds, and how many right products it calls wrong.

Run `python -m bench.guard_detection 700`. Each of so many products of matrices, elementwise products, scaled
values and casts, in every way to finish one, gets one element at a random magnitude from 1 to 1,000 times the
end of its range, or two such elements in one row. A seeded result counts where it is wrong: beyond the end, a
truncation is right by chance at times. Sums and operands of functions get one value beyond their range.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from ditto_kernels.guard.range_guard import guard_ranges
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import reconstruct, share
from tests.kernels.guard import test_element_guard as elements_of
from tests.kernels.guard.test_product_guard import CASES, Case, exact, guarded, operands, plant
from tests.kernels.guard.test_range_guard import RANGES

Row = list[int]


def main(count: int) -> None:
    rng = np.random.default_rng()
    print(f"{'result':<22}{'right':>7}{'alarms':>8}{'one':>8}{'found':>7}{'two':>8}{'found':>7}")
    sums = np.zeros(6, int)
    rows = [
        *((name, lambda case=case: _product(case, rng)) for name, case in CASES.items()),
        *((name, lambda case=case: _elements(case, rng)) for name, case in elements_of.CASES.items()),
        *((name, lambda case=case: _range(*case, rng)) for name, case in RANGES.items()),
    ]
    for name, once in rows:
        row = np.sum([once() for _ in range(count)], axis=0)
        sums += row
        print(f"{name:<22}{row[0]:>7}{row[1]:>8}{row[2]:>8}{row[3]:>7}{row[4]:>8}{row[5]:>7}", flush=True)
    print("sum", *sums)


def _product(case: Case, rng: np.random.Generator) -> Row:
    x, w = operands(case, rng, (16, 48, 24), size=rng.uniform(0.01, 0.2) * case.end)
    row = [0] * 6
    if np.abs(exact(case, x, w)).max() < 0.7 * (case.range or case.end):
        row[:2] = 1, _alarms(case, x, w)[1]
    for elements in (1, 2):
        found = _seeded(case, rng, elements)
        if found is not None:
            row[2 * elements : 2 * elements + 2] = 1, found
    return row


def _elements(case: elements_of.Case, rng: np.random.Generator) -> Row:
    row = [0] * 6
    for seeded in (0, 1, 2):
        x, w = elements_of.operands(case, rng, rng.uniform(0.01, 0.3) * case.end)
        for place in rng.choice(15, seeded, replace=False):  # in one group
            x.flat[place] = rng.choice([-1, 1]) * 10 ** rng.uniform(0, 3) * case.end / w.flat[place]
        if np.abs(x).max() >= Fxp.parse(case.x).limit:
            continue
        y, answer = elements_of.guarded(case, x, w)
        if not seeded or np.abs(y - x * w).max() > 1e-2 * case.end:
            row[2 * seeded : 2 * seeded + 2] = 1, bool(answer != 0)
    return row


def _range(text: str, ends: tuple[float, float], rng: np.random.Generator) -> Row:
    """Test values in the inner half of a range, and one at random beyond it in the ring."""
    fxp, row = Fxp.parse(text), [0] * 6
    low, high = ends[0] if np.isfinite(ends[0]) else -fxp.limit / 2, ends[1]
    middle, half = (low + high) / 2, (high - low) / 2
    for seeded in (0, 1):
        x = middle + rng.uniform(-0.5, 0.5, 100) * half
        if seeded:
            above = rng.random() < 0.5
            factor = ((0.98 * fxp.limit - abs(middle)) / half) ** rng.random()  # to the end of the ring
            x[7] = middle + half * factor if above else middle - half * factor
            if low <= decode(encode(x[7], fxp), fxp) <= high:
                continue
        parts = share(encode(x, fxp), fxp, os.urandom)
        results, _ = run_in_turns(
            lambda party, _, parts=parts: guard_ranges(party, parts[party.rank], out=WRAPS, ranges=(ends,))
        )
        refused = np.abs(decode(reconstruct(results), WRAPS)).max() >= 0.5
        row[2 * seeded : 2 * seeded + 2] = 1, bool(refused)
    return row


def _seeded(case: Case, rng: np.random.Generator, elements: int) -> bool | None:
    """Tell whether the guard finds elements that wrap in a row, or return None where the result is right."""
    x, w = operands(case, rng, (16, 48, 24), size=0.02 * case.end)
    value = rng.choice([-1, 1]) * 10 ** rng.uniform(0, 3) * case.end
    state = rng.bit_generator.state
    for place in range(elements):  # the same row, by the same draw, and mostly another column
        rng.bit_generator.state = state
        plant(case, x, w, value, rng, place)
    try:
        wrong, found = _alarms(case, x, w)
    except ValueError:  # the operands that this takes do not fit their format
        return None
    return found if wrong else None


def _alarms(case: Case, x: np.ndarray, w: np.ndarray) -> tuple[bool, bool]:
    y, _, answer = guarded(case, x, w)
    return bool(np.abs(y - exact(case, x, w)).max() > 1e-2 * case.end), bool(answer != 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
