"""GeLU is tested for its accuracy in 16 bits, the joints of its pieces and the quadratic.

`test_every_form` has the other tests.
"""

import numpy as np
import pytest

from ditto_kernels.activation.gelu import GELU_KERNEL
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode


def check(mpc, x, source, target, dealer=2, **attributes):
    x_fxp, out = Fxp.parse(source), Fxp.parse(target)
    x = decode(encode(x, x_fxp), x_fxp)
    outcome = mpc(GELU_KERNEL.run, (x, x_fxp), dealer=dealer, out=out, **attributes)
    spec = Spec(x.shape, x_fxp)
    outcome.assert_cost(GELU_KERNEL.cost(spec, out=out, **attributes), dealer)
    error = np.abs(outcome.value - GELU_KERNEL.reference(x, **attributes))
    assert error.max() <= GELU_KERNEL.error(spec, out=out, **attributes)
    return error.max()


def grid(fxp, bound):
    """Return every value of the format that stays in range."""
    return np.arange(-(2**15) + int(bound / fxp.ulp), 2**15 - int(bound / fxp.ulp)) * fxp.ulp


@pytest.mark.parametrize(
    ("source", "target", "dealer", "limit"),
    [
        ("fxp16.9", "fxp16.9", 0, 0.0049),
        ("fxp16.9", "fxp32.12", 1, 0.0049),
        ("fxp16.10", "fxp32.10", 2, 0.0045),
        ("fxp16.8", "fxp32.8", 2, 0.007),
    ],
)
def test_every_input_of_the_format(mpc, source, target, dealer, limit):
    worst = check(mpc, grid(Fxp.parse(source), 4), source, target, dealer)
    assert worst < limit


@pytest.mark.parametrize("source", ["fxp16.9", "fxp16.10", "fxp32.12"])
def test_puma_and_even_near_their_joints(mpc, source):
    for approx, bounds in (("puma", (-4, -1.95, 3)), ("even", (-3.125, 3.125))):
        x = np.concatenate([bound + np.linspace(-0.05, 0.05, 101) for bound in (*bounds, -0.75)])
        check(mpc, np.tile(x, 20), source, "fxp32.12", approx=approx)


@pytest.mark.parametrize(
    ("source", "target", "bound"),
    [
        ("fxp16.9", "fxp32.10", 29),
        ("fxp16.9", "fxp16.9", 12),
        ("fxp32.12", "fxp32.12", 5),
        ("fxp64.18", "fxp64.18", 60),
        ("fxp32.10", "fxp16.6", 20),
    ],
)
def test_quadratic(mpc, rng, source, target, bound):
    check(mpc, rng.uniform(-bound, bound, (7, 11)), source, target, dealer=0, approx="quad")


def test_the_tanh_form_is_the_same_protocol(mpc, rng):
    check(mpc, rng.uniform(-6, 6, 999), "fxp16.9", "fxp32.10", approximate="tanh")


def test_out_of_window_values_are_exact(mpc):
    x = np.concatenate([np.linspace(-59, -3.2, 500), np.linspace(3.2, 59, 500)])
    fxp = Fxp.parse("fxp16.9")
    x = decode(encode(x, fxp), fxp)
    outcome = mpc(GELU_KERNEL.run, (x, fxp), out=fxp)
    inside = (x > -3.25) & (x < 3.25)
    assert np.array_equal(outcome.value[~inside], np.maximum(x, 0)[~inside])


def test_an_unknown_approximation_is_refused(mpc):
    with pytest.raises(ValueError, match="choose fourier or precise or table"):
        mpc(GELU_KERNEL.run, (np.ones(3), Fxp(16, 9)), out=Fxp(16, 9), approx="spline")


def test_a_format_without_room_for_the_period_is_refused(mpc):
    with pytest.raises(ValueError, match="choose 2 to 12 fraction bits"):
        mpc(GELU_KERNEL.run, (np.ones(3) / 4, Fxp(16, 14)), out=Fxp(16, 14))
