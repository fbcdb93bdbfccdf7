"""Small values and differences of near values keep their digits by default, and large ones their room."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import enable_x64

from ditto_spu import secure

DRAWN = np.random.default_rng(0).normal(size=(3, 60))
PRICES = (100 * np.cumprod(1 + DRAWN[0] * 0.01)).astype(np.float32)
RAMP = np.linspace(0, 0.02, 60, dtype=np.float32)
SMALL = (DRAWN * 1e-3).astype(np.float32)
MIDDLE = (DRAWN * 1e-2).astype(np.float32)


def slope(x, y):
    dx = x - x.mean()
    return (dx * (y - y.mean())).sum() / (dx**2).sum()


def steadiness(prices):
    changes = prices[1:] / prices[:-1] - 1
    return changes.mean() / changes.std()


CASES = {
    "correlation": (lambda x, y: jnp.corrcoef(x, y)[0, 1], (MIDDLE[0], MIDDLE[0] / 2 + MIDDLE[1])),
    "slope": (slope, (RAMP, 3 * RAMP + SMALL[0])),
    "mean over deviation": (lambda x: x.mean() / x.std(), (MIDDLE[0] + 0.002,)),
    "relative changes": (steadiness, (PRICES,)),
    "a relative change, added": (lambda x: (-1 + x[1:4] / x[:3]) * 50, (PRICES,)),
    "median": (lambda x: jnp.median(x) * 500, (SMALL[0, :7],)),
    "largest": (lambda x: jnp.max(x), (SMALL[0],)),
    "distance in one norm": (lambda x, y: jnp.abs(x - y).sum(), (SMALL[0], SMALL[0] + SMALL[1] / 9)),
    "large values chosen": (lambda x: jnp.where(x > 0, x, -x), (MIDDLE[0] * 1e12,)),
    "large quotients": (lambda x, y: x / y, (np.float32([3e6, 9e5]), np.float32([2e6, 4.5]))),
}


@pytest.mark.parametrize("name", CASES)
def test_values_keep_their_digits(name):
    fn, args = CASES[name]
    with enable_x64():
        expected = np.asarray(fn(*(each.astype(np.float64) for each in args)))
    got = np.asarray(secure(fn)(*args), np.float64)
    assert np.max(np.abs(got - expected)) <= 0.006 * np.max(np.abs(expected))


def test_a_difference_before_a_quotient_costs_no_more():
    def sent(fn):
        return sum(secure(fn).lower(PRICES).cost_analysis().bytes_sent_per_party)

    assert sent(lambda x: x[1:] / x[:-1] - 1) <= sent(lambda x: x[1:] / x[:-1])
