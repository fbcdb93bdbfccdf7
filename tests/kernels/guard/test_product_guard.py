"""Products in range never count as wrapped, and an element that wraps is found, in every way to finish."""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from ditto_kernels.guard.last_guard import GUARD_BIT, guard_last
from ditto_kernels.guard.one_bit import ANSWER
from ditto_kernels.guard.product_guard import guard_products
from ditto_kernels.guard.watched_product import watched
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.products.matmul import matmul
from ditto_kernels.products.matmul_public import matmul_public
from ditto_kernels.protocol.in_turns import run_in_turns
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import Rss, reconstruct, share

F = Fxp.parse
PLAIN = (((1,), (0,)), ((), ()))
BATCHED = (((2,), (2,)), ((0,), (0,)))  # [b, m, k] and [b, n, k]


@dataclass(frozen=True)
class Case:
    """A way to finish a product.

    end: from this magnitude on, a result may be wrong. shifted: whether a row is added before it is watched.
    """

    x: str
    w: str | int  # the fraction bits of a public one
    y: str
    end: float
    range: float | None = None
    summed: str = "right"
    batched: bool = False
    public_left: bool = False
    shifted: bool = False


CASES = {
    "truncated": Case("fxp32.11", "fxp32.14", "fxp32.11", 32.0),
    "truncated, left": Case("fxp32.11", "fxp32.14", "fxp32.11", 32.0, summed="left"),
    "doubled": Case("fxp32.10", "fxp32.13", "fxp32.11", 64.0, 60.0),
    "lifted": Case("fxp32.11", "fxp32.14", "fxp32.10", 16.0, 15.0),
    "narrow": Case("fxp32.11", "fxp32.14", "fxp16.10", 32.0, 28.0),
    "narrow, shifted": Case("fxp32.11", "fxp32.14", "fxp16.10", 32.0, 28.0, shifted=True),
    "narrow, batched": Case("fxp32.10", "fxp32.10", "fxp16.6", 512.0, 200.0, "left", True),
    "ring 64": Case("fxp64.18", "fxp64.18", "fxp64.18", 2.0**26),
    "ring 64, batched": Case("fxp64.18", "fxp64.18", "fxp64.18", 2.0**26, batched=True),
    "64 to 32": Case("fxp64.18", "fxp64.18", "fxp32.12", 2.0**19),
    "public": Case("fxp32.11", 14, "fxp32.11", 32.0),
    "public, left": Case("fxp64.18", 18, "fxp64.18", 2.0**26, summed="left", public_left=True),
}


def guarded(case, x, w):
    """Return the result of a product, the counts of wraps and the number that tells the bit."""
    dims = BATCHED if case.batched else PLAIN
    attributes = {"dims": dims, "range": case.range}
    shared = [share(encode(x, F(case.x)), F(case.x), os.urandom)]
    if isinstance(case.w, int):
        attributes |= {"weight_fraction_bits": case.w, "public_left": case.public_left}
        shared.append((w,) * 3)
    else:
        shared.append(share(encode(w, F(case.w)), F(case.w), os.urandom))
    row = share(encode(np.linspace(-1, 1, w.shape[-1]), F(case.y)), F(case.y), os.urandom)
    product = matmul_public if isinstance(case.w, int) else matmul

    def program(party, _):
        mine = [each[party.rank] for each in shared]
        y = yield from product(party.at("product"), *mine, out=F(case.y), **attributes)
        told = (*attributes.items(), ("summed", case.summed), ("shifted", case.shifted))
        own = row[party.rank]
        made = (Rss(y.mine + own.mine, y.next + own.next, y.fxp), own) if case.shifted else (y,)
        wraps = yield from guard_products(party.at("guard"), *mine, *made, out=WRAPS, products=(told,))
        return y, wraps, (yield from guard_last(party.at("bit"), wraps, out=ANSWER))

    results, _ = run_in_turns(program)
    return [decode(reconstruct(parts), parts[0].fxp) for parts in zip(*results, strict=True)]


def operands(case, rng, shape=(7, 24, 9), size=1.0):
    """Draw operands whose product has elements of that size."""
    m, k, n = shape
    left, right = rng.normal(size=(m, k)), rng.normal(size=(k, n)) * size / np.sqrt(k)
    if case.batched:
        return np.stack([left, -left]), np.stack([right.T, right.T])
    return (left.T, right.T) if case.public_left else (left, right)


def exact(case, x, w):
    if case.batched:
        return np.einsum("bmk,bnk->bmn", x, w)
    return w @ x if case.public_left else x @ w


def plant(case, x, w, value, rng, shift=0):
    """Change one row or column of w so that one element of the product gets a value.

    shift: moves the element along the dimension of w, so that another draw hits the same row of x.
    """
    if case.batched:
        row = x[0, rng.integers(x.shape[1])]
        w[0, (rng.integers(w.shape[1]) + shift) % w.shape[1]] = row * value / (row @ row)
    elif case.public_left:
        column = x[:, rng.integers(x.shape[1])]
        w[(rng.integers(w.shape[0]) + shift) % w.shape[0]] = column * value / (column @ column)
    else:
        row = x[rng.integers(x.shape[0])]
        w[:, (rng.integers(w.shape[1]) + shift) % w.shape[1]] = row * value / (row @ row)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_products_in_range_have_no_wraps(case, rng):
    for size in (0.01, 0.1, 0.2):
        x, w = operands(case, rng, size=size * case.end)
        x = np.clip(x, -2, 2)
        if np.abs(exact(case, x, w)).max() > 0.87 * (case.range or case.end):
            continue
        y, wraps, answer = guarded(case, x, w)
        assert np.abs(y - exact(case, x, w)).max() <= 1e-3 * case.end
        assert np.abs(wraps).max() < 0.1
        assert answer == 0


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_element_that_wraps_is_found(case, rng):
    seen = 0
    for factor in (1.001, 1.01, 1.03, 1.1, 1.3, 1.5, 1.9, 2.0, 3.0, 4.0, 7.0, 11.3, 29.0):
        x, w = operands(case, rng, size=0.05 * case.end)
        plant(case, x, w, rng.choice([-1, 1]) * factor * case.end, rng)
        try:
            y, _, answer = guarded(case, x, w)
        except ValueError:  # the weights that this takes do not fit their format
            continue
        wrong = np.abs(y - exact(case, x, w)).max() > 1e-2 * case.end
        seen += wrong
        assert answer != 0 or not wrong, factor
    assert seen > 2


def test_two_elements_that_wrap_in_one_row_rarely_cancel(rng):
    case, missed = CASES["truncated"], 0
    for _ in range(40):
        x, w = operands(case, rng)
        w[:, 3], w[:, 5] = (w[:, 3] + x[2] * sign * 100 / (x[2] @ x[2]) for sign in (1, -1))
        missed += guarded(case, x, w)[2] == 0
    assert missed <= 1  # the probability of one is below 0.003 in all


def test_the_number_tells_one_bit():
    """Out of range it is uniform: every bit is as often 1 as 0, however many values are out of range."""
    for outside in (1, 50):
        values = np.zeros(60)
        values[:outside] = 1.0
        parts = share(encode(values, WRAPS), WRAPS, os.urandom)
        drawn = []
        for _ in range(60):
            results, _ = run_in_turns(lambda p, _, each=parts: guard_last(p, each[p.rank], out=ANSWER))
            drawn.append(reconstruct(results).view(np.uint8))
        assert abs(np.unpackbits(np.stack(drawn)).mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    ("value", "inside"), [(0.49, True), (-0.49, True), (0.5, False), (-0.51, False), (31, False)]
)
def test_the_bit_is_about_half_a_wrap(mpc, value, inside):
    values = np.zeros((3, 7))
    values[2, 6] = value
    assert (mpc(guard_last, (values, WRAPS), out=ANSWER).value == 0).all() == inside


@pytest.mark.parametrize(
    ("name", "rounds"), [("truncated", 5), ("narrow", 5), ("public", 3), ("ring 64, batched", 5)]
)
def test_the_bit_takes_as_many_rounds_as_a_short_normalisation(name, rounds):
    case, batch = CASES[name], (2,) * CASES[name].batched
    told = {"dims": BATCHED if batch else PLAIN, "range": case.range}
    if isinstance(case.w, int):
        told["weight_fraction_bits"] = case.w
    fxp = None if isinstance(case.w, int) else F(case.w)
    w = Spec((*batch, 9, 24) if batch else (24, 9), fxp)
    x, y = Spec((*batch, 7, 24), F(case.x)), Spec((*batch, 7, 9), F(case.y))
    products = (tuple(told.items()),)
    assert GUARD_BIT.cost(x, w, y, out=ANSWER, products=products).rounds == rounds
    exact = Spec((5,), F("fxp64.18"))  # runs beside the counts
    cost = GUARD_BIT.cost(x, w, y, exact, out=ANSWER, products=products, ranges=((0.0, 9.0),))
    assert cost.rounds == max(rounds, 4)


def test_products_that_drop_no_bits_cannot_be_watched():
    whole, fixed = F("fxp64.0"), F("fxp32.12")
    assert watched(Spec((2, 3), whole), Spec((3, 2), whole), Spec((2, 2), whole), dims=PLAIN) is None
    assert watched(Spec((2, 3), fixed), Spec((3, 2), fixed), Spec((2, 2), fixed), dims=PLAIN) is not None
