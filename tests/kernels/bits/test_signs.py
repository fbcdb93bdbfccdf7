"""Signs of masked values are right, and so are the values that they select."""

import numpy as np
import pytest

from ditto_kernels.bits.select import multiply_bits, to_arithmetic
from ditto_kernels.bits.signs import signs
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.sharing.additive import from_rss, open_masked, to_rss
from ditto_kernels.values.formats import Fxp


def signs_of(party, x, offsets, width, low=0):
    opened = yield from open_masked(party.at("open"), from_rss(party, x))
    bits = yield from signs(party.at("signs"), opened, offsets, low, width)
    result = yield from to_arithmetic(party.at("ring"), bits, x.size, Fxp(32, 0))
    return (yield from to_rss(party.at("result"), result))


def kept_if_negative(party, x, offsets):
    opened = yield from open_masked(party.at("open"), from_rss(party, x))
    bits = yield from signs(party.at("signs"), opened, offsets)
    kept = yield from multiply_bits(party.at("keep"), bits, opened)
    return (yield from to_rss(party.at("result"), kept))


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize(
    ("ring", "width"), [(8, None), (16, None), (32, None), (64, None), (32, 16), (64, 16), (16, 8)]
)
def test_signs(mpc, rng, ring, width, dealer):
    bound = 2 ** min((width or ring) - 1, 50)
    x = rng.integers(-bound + 3, bound - 3, 75)
    x[:6] = 0, -1, 1, -bound + 3, bound - 4, 2
    offsets = (0, 3, -3)
    outcome = mpc(signs_of, (x, Fxp(ring, 0)), dealer=dealer, offsets=offsets, width=width)
    assert np.array_equal(outcome.value, np.stack([x + offset < 0 for offset in offsets]))
    outcome.assert_cost(cost_of(signs_of, Spec((75,), Fxp(ring, 0)), offsets=offsets, width=width), dealer)


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize("ring", [8, 16, 32, 64])
@pytest.mark.parametrize("shape", [(), (1,), (63,), (3, 5)])
def test_values_chosen_by_their_sign(mpc, rng, ring, shape, dealer):
    x = np.asarray(rng.integers(-100, 100, shape))
    outcome = mpc(kept_if_negative, (x, Fxp(ring, 0)), dealer=dealer, offsets=(0, 5))
    assert np.array_equal(outcome.value, np.stack([np.where(x < 0, x, 0), np.where(x + 5 < 0, x, 0)]))
    outcome.assert_cost(cost_of(kept_if_negative, Spec(shape, Fxp(ring, 0)), offsets=(0, 5)), dealer)


def test_every_value_of_ring_16_against_several_thresholds(mpc):
    x = np.arange(-(2**15) + 2000, 2**15 - 2000)
    offsets = (0, 1664, -1664, 1999)
    outcome = mpc(signs_of, (x, Fxp(16, 0)), offsets=offsets, width=None)
    assert np.array_equal(outcome.value, np.stack([x + offset < 0 for offset in offsets]))


@pytest.mark.parametrize("low", [1, 3, 7, 8, 11])
def test_every_value_of_ring_16_without_its_low_bits(mpc, low):
    """Only -2^low < x + offset < 0 may read either way, whatever the mask, and it does read both ways."""
    offsets, step = (0, 1664, -1536, 77, -1), 1 << low
    x = np.arange(-(2**15), 2**15)
    y = x + np.asarray(offsets)[:, None]
    in_range = (y >= -(2**15)) & (y <= 2**15 - step)
    fuzzy = (y > -step) & (y < 0)
    seen = []
    for dealer in (0, 1, 2, 0):
        outcome = mpc(signs_of, (x, Fxp(16, 0)), dealer=dealer, offsets=offsets, width=None, low=low)
        seen.append(outcome.value == 1)
        sure = in_range & ~fuzzy
        assert np.array_equal(seen[-1][sure], (y < 0)[sure])
    either = np.any(seen, axis=0) & ~np.all(seen, axis=0)
    assert np.any(either) and not np.any(either & in_range & ~fuzzy)


def test_the_chance_of_the_other_reading_grows_with_the_low_bits(mpc):
    """The value x + offset = -2^low + t reads as not negative with probability t / 2^low."""
    low, t = 6, np.repeat([0, 1, 16, 32, 63], 4000)
    outcome = mpc(signs_of, (t - 64, Fxp(16, 0)), offsets=(0,), width=None, low=low)
    shares = (outcome.value[0] == 0).reshape(5, -1).mean(axis=1)
    assert np.abs(shares - np.array([0, 1, 16, 32, 63]) / 64).max() < 0.04
    assert shares[0] == 0


@pytest.mark.parametrize(
    ("ring", "low", "width"), [(32, 10, None), (64, 16, None), (64, 16, 20), (32, 8, 8), (16, 7, 9)]
)
def test_low_bits_of_wider_rings(mpc, rng, ring, low, width):
    top = min(low + (width or ring - low) - 1, 50)
    x = rng.integers(-(2**top) + 2**low, 2**top - 2 * 2**low, 999)
    x[:4] = 0, 1, -(2**low), -(2**low) - 1
    offsets = (0, 2**low)
    outcome = mpc(signs_of, (x, Fxp(ring, 0)), offsets=offsets, width=width, low=low)
    y = x + np.asarray(offsets)[:, None]
    sure = (y >= 0) | (y <= -(2**low))
    assert np.array_equal((outcome.value == 1)[sure], (y < 0)[sure])
    spec = Spec((999,), Fxp(ring, 0))
    outcome.assert_cost(cost_of(signs_of, spec, offsets=offsets, width=width, low=low), 2)
