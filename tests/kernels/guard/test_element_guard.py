"""Elements in range never count as wrapped, and one that wraps is found, however the result was made."""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from ditto_kernels.guard.element_guard import guard_elements, how_shown
from ditto_kernels.guard.last_guard import guard_last
from ditto_kernels.guard.one_bit import ANSWER
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.products.multiply import multiply, symmetric
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.sharing.casts import convert
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import Rss, reconstruct, share

F = Fxp.parse


@dataclass(frozen=True)
class Case:
    """A way to make a result of elements. `end`: from this magnitude on, it may be wrong.

    w: the format of a shared factor, the fraction bits of a public one, or None for a cast.
    """

    x: str
    w: str | int | None
    y: str
    end: float
    range: float | None = None


CASES = {
    "truncated": Case("fxp32.11", "fxp32.11", "fxp32.11", 256.0, 250.0),
    "lifted": Case("fxp32.10", "fxp32.11", "fxp32.8", 128.0, 120.0),
    "narrow": Case("fxp32.10", "fxp32.10", "fxp16.6", 512.0, 200.0),
    "ring 64": Case("fxp64.18", "fxp64.18", "fxp64.18", 2.0**26),
    "64 to 32": Case("fxp64.18", "fxp64.18", "fxp32.12", 2.0**19),
    "scaled": Case("fxp32.11", 11, "fxp32.11", 256.0),
    "scaled in ring 64": Case("fxp64.18", 20, "fxp64.18", 2.0**24),
    "scaled to ring 32": Case("fxp64.18", 20, "fxp32.12", 2.0**19),
    "cast": Case("fxp64.18", None, "fxp32.12", 2.0**19),
    "cast to ring 16": Case("fxp32.12", None, "fxp16.8", 128.0),
}


def guarded(case, x, w):
    """Return the result and the number that tells the bit."""
    shared = [share(encode(x, F(case.x)), F(case.x), os.urandom)]
    attributes = {"operands": 2 if case.w is None else 3, "range": case.range}
    if isinstance(case.w, str):
        shared.append(share(encode(w, F(case.w)), F(case.w), os.urandom))
    elif case.w is not None:
        attributes["weight_fraction_bits"] = case.w
        shared.append((w,) * 3)

    def program(party, _):
        first, *rest = [each[party.rank] for each in shared]
        if case.w is None:
            y = yield from convert(party.at("cast"), first, F(case.y))
        elif isinstance(case.w, str):
            y = yield from multiply(party.at("product"), first, rest[0], F(case.y), symmetric(case.range))
        else:
            factor = Fxp(first.fxp.ring_bits, case.w)
            bits = Fxp(first.fxp.ring_bits, first.fxp.fraction_bits + case.w)
            scaled = Rss(first.mine * encode(w, factor), first.next * encode(w, factor), bits)
            y = yield from convert(party.at("cast"), scaled, F(case.y))
        told = (tuple(attributes.items()),)
        wraps = yield from guard_elements(party.at("guard"), first, *rest, y, out=WRAPS, items=told)
        return y, (yield from guard_last(party.at("bit"), wraps, out=ANSWER))

    results, _ = run_in_turns(program)
    return [decode(reconstruct(parts), parts[0].fxp) for parts in zip(*results, strict=True)]


def operands(case, rng, size, shape=(9, 21)):
    """Draw operands whose products have elements of about that size."""
    w = np.ones(shape) if case.w is None else rng.uniform(0.5, 2, shape) * rng.choice([-1, 1], shape)
    return rng.uniform(-1, 1, shape) * size, w


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_elements_in_range_have_no_wraps(case, rng):
    for size in (0.001, 0.1, 0.3):
        x, w = operands(case, rng, size * case.end)
        y, answer = guarded(case, x, w)
        assert np.abs(y - x * w).max() <= 1e-3 * case.end
        assert answer == 0


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_element_that_wraps_is_found(case, rng):
    seen = 0
    for factor in (1.01, 1.3, 1.9, 2.0, 2.4, 3.0, 4.0, 7.0, 11.3, 29.0, 1000.0):
        x, w = operands(case, rng, 0.05 * case.end)
        x[4, 7] = factor * case.end / w[4, 7]
        if abs(x[4, 7]) >= F(case.x).limit:
            continue
        y, answer = guarded(case, x, w)
        wrong = np.abs(y - x * w).max() > 1e-2 * case.end
        seen += wrong
        assert answer != 0 or not wrong, factor
    assert seen > 1  # close to the end it is by chance that a value is wrong


def test_what_drops_no_bits_cannot_be_watched():
    whole = Spec((2, 3), F("fxp64.0"))
    assert how_shown(whole, whole, whole) is None
    assert how_shown(Spec((2,), F("fxp32.12")), None, Spec((2,), F("fxp32.8"))) is None
