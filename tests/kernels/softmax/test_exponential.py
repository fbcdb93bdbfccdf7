"""Exponentials stay within their bound, are 0 far below their range, and have exact costs."""

import numpy as np
import pytest

from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.sharing.additive import from_rss, to_rss
from ditto_kernels.softmax.exponential import EXPONENTIAL
from ditto_kernels.softmax.negative_exponential import exp_negative, fit_window
from ditto_kernels.values.formats import Fxp

CASES = [
    ("fxp16.8", "fxp32.12", -4.0, 4.0),
    ("fxp16.8", "fxp32.14", -16.0, 0.0),
    ("fxp16.6", "fxp32.16", -10.0, 3.0),
    ("fxp32.12", "fxp32.16", -8.0, 2.0),
    ("fxp32.14", "fxp16.10", -4.0, 2.0),
    ("fxp64.18", "fxp64.18", -8.0, 2.0),
    ("fxp8.4", "fxp16.8", -4.0, 2.0),
]


@pytest.mark.parametrize("count", [400, 4000])  # The range bits of 400 elements take no round.
@pytest.mark.parametrize(("source", "target", "lo", "hi"), CASES)
def test_error_stays_within_the_bound(mpc, source, target, lo, hi, count):
    fxp, out = Fxp.parse(source), Fxp.parse(target)
    x = np.concatenate([np.random.default_rng(0).uniform(lo, hi, count), [lo, hi, hi - fxp.ulp]])
    x = np.rint(x / fxp.ulp) * fxp.ulp
    spec = Spec(x.shape, fxp)
    bound = EXPONENTIAL.error(spec, out=out, lo=lo, hi=hi)
    for dealer in range(3):
        outcome = mpc(EXPONENTIAL.run, (x, fxp), out=out, lo=lo, hi=hi, dealer=dealer)
        assert np.max(np.abs(outcome.value - np.exp(x))) <= bound
        outcome.assert_cost(EXPONENTIAL.cost(spec, out=out, lo=lo, hi=hi), dealer)


@pytest.mark.parametrize("scale", [0.125, 1.0])
def test_every_distance_of_ring_16(mpc, scale):
    fxp = Fxp(16, 6)
    how = fit_window(fxp, scale, Fxp(32, 14))
    steps = np.arange((1 << 16) - (1 << how.digit))
    distance = steps.astype(np.int16) * fxp.ulp  # Distances are unsigned.

    def protocol(party, x):
        return (yield from to_rss(party, (yield from exp_negative(party.at("exp"), from_rss(party, x), how))))

    value = mpc(protocol, (distance, fxp)).value
    exact = 2.0 ** -(how.rate * steps)
    inside = steps * how.rate <= how.reach
    assert np.max(np.abs(value - exact)[inside]) <= how.error
    assert np.max(np.abs(value - exact)[~inside]) <= how.error + 2.0**-how.reach
    beyond = value[1 << how.bits :]
    assert np.max(np.abs(beyond), initial=0.0) <= how.error and abs(np.mean(beyond)) <= 0.05 * how.error


def test_far_values_are_zero_up_to_rounding(mpc):
    fxp, out = Fxp(16, 6), Fxp(32, 20)
    x = -np.linspace(40, 250, 300)
    outcome = mpc(EXPONENTIAL.run, (x, fxp), out=out, lo=-20.0, hi=0.0)
    assert np.max(np.abs(outcome.value)) <= EXPONENTIAL.error(Spec(x.shape, fxp), out=out, lo=-20.0, hi=0.0)


def test_no_window_is_an_error():
    with pytest.raises(ValueError, match="no window"):
        fit_window(Fxp(16, 0), 100.0, Fxp(32, 4))
