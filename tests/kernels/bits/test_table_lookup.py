"""Tables at a secret index give their entries, and an opening gives x/2."""

import numpy as np
import pytest

from ditto_kernels.activation.half_of_x import half, wrap_items, wrap_values
from ditto_kernels.bits.table_lookup import look_up
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.protocol.party import deal
from ditto_kernels.sharing.additive import Additive, from_rss, open_masked, to_rss
from ditto_kernels.values.formats import Fxp


def entries_at(party, x, entries, low, ring):
    opened = yield from open_masked(party.at("open"), from_rss(party, x))
    found = yield from look_up(party.at("table"), opened, entries, low, ring)
    return (yield from to_rss(party.at("result"), found))


def half_of(party, x, scale):
    opened = yield from open_masked(party.at("open"), from_rss(party, x))
    dealt = yield from deal(party, wrap_items(opened), lambda: wrap_values(opened))
    share = half(party, opened, dealt, scale)
    return (yield from to_rss(party.at("result"), Additive(share, Fxp(32, scale))))


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize(("source", "bits", "target"), [(16, 8, 16), (16, 10, 64), (32, 7, 32), (64, 3, 16)])
def test_every_entry_in_any_ring(mpc, rng, source, bits, target, dealer):
    entries = tuple(int(value) for value in rng.integers(-3000, 5000, 1 << bits))
    x = np.concatenate([np.arange(1 << bits), rng.integers(-(2**14), 2**14, 100)])
    outcome = mpc(entries_at, (x, Fxp(source, 0)), dealer=dealer, entries=entries, low=0, ring=target)
    assert np.array_equal(outcome.value, np.asarray(entries)[x % (1 << bits)])
    spec = Spec(x.shape, Fxp(source, 0))
    outcome.assert_cost(cost_of(entries_at, spec, entries=entries, low=0, ring=target), dealer)


def test_bits_below_the_index_round_it_by_chance(mpc):
    entries, low = tuple(range(256)), 3
    x = np.repeat(np.arange(2000), 20)
    outcome = mpc(entries_at, (x, Fxp(16, 0)), entries=entries, low=low, ring=16)
    above = outcome.value - x // 8
    assert set(np.unique(above)) == {0, 1}
    assert np.all(above[x % 8 == 0] == 0)
    for rest in range(1, 8):
        assert abs(above[x % 8 == rest].mean() - rest / 8) < 0.06


def test_entries_too_far_apart_are_refused(mpc):
    with pytest.raises(ValueError, match="may span 16"):
        mpc(entries_at, (np.arange(3), Fxp(16, 0)), entries=(0, 1 << 17), low=0, ring=32)


@pytest.mark.parametrize("dealer", [0, 1, 2])
def test_half_of_every_value_of_ring_16(mpc, dealer):
    x = np.tile(np.arange(-(2**14), 2**14), 3)
    outcome = mpc(half_of, (x / 512, Fxp(16, 9)), dealer=dealer, scale=25)
    assert np.array_equal(outcome.value, x / 1024)
    outcome.assert_cost(cost_of(half_of, Spec(x.shape, Fxp(16, 9)), scale=25), dealer)


@pytest.mark.parametrize(("source", "scale"), [("fxp32.12", 28), ("fxp64.18", 28), ("fxp64.30", 27)])
def test_half_in_wider_rings(mpc, rng, source, scale):
    fxp = Fxp.parse(source)
    x = np.rint(rng.uniform(-7, 7, 500) * 2.0**fxp.fraction_bits) * fxp.ulp
    outcome = mpc(half_of, (x, fxp), scale=scale)
    assert np.abs(outcome.value - x / 2).max() <= (2 * 2.0**-scale if fxp.fraction_bits >= scale else 0)


def test_half_wants_the_scale_of_the_series(mpc):
    with pytest.raises(ValueError, match="choose 25"):
        mpc(half_of, (np.ones(3), Fxp(16, 9)), scale=24)
