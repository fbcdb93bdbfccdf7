"""Roots and quotients over all magnitudes that a format holds, octave by octave; exact costs."""

import numpy as np
import pytest

from ditto_kernels.inverse.reciprocal_rsqrt_divide import DIVIDE, RSQRT
from ditto_kernels.inverse.whole_range import fit_quotient
from ditto_kernels.inverse.whole_roots import SQRT, fit_root
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp

AIM = 2.0**-10
FORMATS = [
    ("fxp32.11", "fxp32.11"),
    ("fxp64.22", "fxp32.11"),
    ("fxp64.18", "fxp64.18"),
    ("fxp16.6", "fxp32.12"),
    ("fxp32.18", "fxp32.18"),
]


def every_octave(bits, rng, count=20):
    """Ring elements of every octave below 2^bits, with the ends of the octaves."""
    drawn = [np.floor(2.0 ** (octave + rng.random(count))) for octave in range(bits)]
    ends = [[2.0**octave - 1, 2.0**octave, 2.0**octave + 1] for octave in range(1, bits)]
    return np.concatenate([*drawn, *ends, [2.0**bits - 1]])


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize(("source", "target"), FORMATS)
def test_quotients_by_divisors_of_any_sign_and_size(mpc, source, target, public):
    fxp, out, rng = Fxp.parse(source), Fxp.parse(target), np.random.default_rng(0)
    how = fit_quotient(None if public else fxp, fxp, out)
    y = every_octave(2 * how.plan.pieces, rng)
    y *= rng.choice([-1, 1], y.size) * fxp.ulp
    sizes = np.exp(rng.uniform(np.log(out.ulp), np.log(0.99 * how.room), y.size))
    x = np.clip(sizes * rng.choice([-1, 1], y.size) * y, -fxp.limit / 2, fxp.limit / 2)
    grid = 2.0 ** -min(fxp.fraction_bits, how.dividend)
    x = np.rint(x / grid) * grid
    for dealer in range(3):
        shared = x if public else (x, fxp)
        outcome = mpc(DIVIDE.run, shared, (y, fxp), out=out, approx="whole", dealer=dealer)
        error = np.abs(outcome.value - x / y)
        assert np.all(error <= AIM * np.abs(x / y) + 2 * out.ulp)
        specs = Spec(x.shape, None if public else fxp), Spec(y.shape, fxp)
        outcome.assert_cost(DIVIDE.cost(*specs, out=out, approx="whole"), dealer)


def test_a_large_public_dividend_and_a_small_one(mpc):
    y, out = np.array([0.25, -400.0, 3e5]), Fxp(32, 11)
    outcome = mpc(DIVIDE.run, np.array([1e-3, 4e4, -3e6]), (y, Fxp(64, 22)), out=out, approx="whole")
    assert np.all(np.abs(outcome.value - [4e-3, -100, -10]) <= 1e-4 * np.array([0, 100, 10]) + 2 * out.ulp)


def test_operands_broadcast_to_each_other(mpc):
    x, y, fxp = np.arange(6.0).reshape(3, 2), np.array([[2.0], [-0.5], [300.0]]), Fxp(32, 12)
    outcome = mpc(DIVIDE.run, (x, fxp), (y, Fxp(32, 10)), out=fxp, approx="whole")
    assert np.all(np.abs(outcome.value - x / y) <= AIM * np.abs(x / y) + 2 * fxp.ulp)


@pytest.mark.parametrize("kernel", [RSQRT, SQRT], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(
    ("source", "target"),
    [*FORMATS, ("fxp64.28", "fxp32.11"), ("fxp32.15", "fxp32.18"), ("fxp64.23", "fxp64.23")],
)
def test_roots_of_every_positive_value(mpc, kernel, source, target):
    fxp, out = Fxp.parse(source), Fxp.parse(target)
    x = every_octave(fxp.ring_bits - 2, np.random.default_rng(1)) * fxp.ulp
    exact = kernel.reference(x)
    x, exact = x[exact < out.limit / 2], exact[exact < out.limit / 2]
    attributes = {"approx": "whole"} if kernel is RSQRT else {}
    for dealer in range(3):
        outcome = mpc(kernel.run, (x, fxp), out=out, dealer=dealer, **attributes)
        assert np.all(np.abs(outcome.value - exact) <= AIM * exact + 2 * out.ulp)
        outcome.assert_cost(kernel.cost(Spec(x.shape, fxp), out=out, **attributes), dealer)


def test_the_root_of_what_is_not_positive_is_zero(mpc):
    fxp = Fxp(32, 11)
    outcome = mpc(SQRT.run, (np.array([0.0, -3.0, -1000.0]), fxp), out=fxp)
    assert np.all(np.abs(outcome.value) <= 2 * fxp.ulp)


@pytest.mark.parametrize("ring", [8, 16, 32, 64])
def test_proven_errors_stay_below_the_aim(ring):
    fxp = Fxp(ring, ring // 3)
    assert fit_quotient(fxp, fxp, Fxp(32, 11)).plan.error < AIM
    assert all(fit_root(root, fxp, Fxp(32, 11)).plan.error < AIM for root in ("rsqrt", "sqrt"))


def test_formats_without_room_are_errors():
    with pytest.raises(ValueError, match="too many fraction bits"):
        DIVIDE.cost(Spec((3,), Fxp(64, 40)), Spec((3,), Fxp(64, 4)), out=Fxp(32, 12), approx="whole")
    with pytest.raises(ValueError, match="public dividend"):
        DIVIDE.cost(Spec((3,)), Spec((3,), Fxp(32, 12)), out=Fxp(32, 12))
