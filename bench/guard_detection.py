"""Measure how many seeded overflows the guard finds, and how many right products it calls wrong.

Run `python -m bench.guard_detection 2000`. Each of so many products, in every way to finish one, gets one
element at a random magnitude from 1 to 1,000 times the end of its range, or two such elements in one row.
A seeded product counts where its result is wrong: beyond the end, a truncation is right by chance at times.
"""

from __future__ import annotations

import sys

import numpy as np

from tests.kernels.guard.test_product_guard import CASES, Case, exact, guarded, operands, plant


def main(count: int) -> None:
    rng = np.random.default_rng()
    print(f"{'product':<18}{'right':>7}{'alarms':>8}{'one':>8}{'found':>7}{'two':>8}{'found':>7}")
    sums = np.zeros(6, int)
    for name, case in CASES.items():
        row = [0] * 6
        for _ in range(count):
            x, w = operands(case, rng, (16, 48, 24), size=rng.uniform(0.01, 0.2) * case.end)
            if np.abs(exact(case, x, w)).max() < 0.87 * (case.range or case.end):
                row[0] += 1
                row[1] += _alarms(case, x, w)[1]
            for elements in (1, 2):
                found = _seeded(case, rng, elements)
                if found is not None:
                    row[2 * elements] += 1
                    row[2 * elements + 1] += found
        sums += row
        print(f"{name:<18}{row[0]:>7}{row[1]:>8}{row[2]:>8}{row[3]:>7}{row[4]:>8}{row[5]:>7}", flush=True)
    print("sum", *sums)


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
