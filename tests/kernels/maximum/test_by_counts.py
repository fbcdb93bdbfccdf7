"""A maximum by counts is exact up to the ends of its range, for any length, public mask and dealer."""

import numpy as np
import pytest

from ditto_kernels.maximum import by_counts
from ditto_kernels.protocol.derived_cost import cost_of
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTHS
from ditto_kernels.sharing.additive import from_rss, to_rss
from ditto_kernels.softmax.plan import planned
from ditto_kernels.softmax.softmax import SOFTMAX
from ditto_kernels.values.formats import Fxp

BYTE = Fxp(8, 0)
F = Fxp.parse


def _largest(party, x, *keep, reach):
    best = yield from by_counts.largest_by_counts(party, from_rss(party, x), reach, *keep)
    return (yield from to_rss(party, best))


@pytest.mark.parametrize(("length", "rows", "reach"), [(2, (3,), 1), (37, (4, 3), 51), (255, (2,), 64)])
def test_exact_for_every_length_reach_and_mask(mpc, rng, length, rows, reach):
    x = rng.integers(-reach, min(reach, 63) + 1, (length, *rows))
    x[:, 0], x[0, 1], x[-1, 1] = -reach, min(reach, 63), -reach  # equal entries, and both ends
    x[:, -1] -= rng.integers(0, 5, x[:, -1].shape) * (x[:, -1] >= 5 - reach)
    keep = rng.random(x.shape) < 0.5
    keep[:, -1] = False
    for dealer, mask in enumerate(((), (keep,), (np.ones_like(keep),))):
        outcome = mpc(_largest, (x, BYTE), *mask, reach=reach, dealer=dealer)
        kept = np.where(mask[0], x, -reach) if mask else x
        assert np.array_equal(outcome.value, kept.max(axis=0))
        specs = [Spec(x.shape)] if mask else []
        cost = cost_of(_largest, Spec(x.shape, BYTE), *specs, reach=reach)
        outcome.assert_cost(cost, dealer)
        assert cost.rounds == 3  # with the reshare
        assert sum(cost.offline) == by_counts.dealt_bytes(length, int(np.prod(rows)), reach)


def test_what_would_wrap_or_is_too_large_is_not_counted():
    assert by_counts.serves(255, 1, 64, ROUND_WORTHS[-1])
    assert not by_counts.serves(256, 1, 64, ROUND_WORTHS[-1])
    assert not by_counts.serves(20, 1, 65, ROUND_WORTHS[-1])
    assert by_counts.serves(37, 12, 51, ROUND_WORTHS[0])
    assert not by_counts.serves(37, 144, 51, ROUND_WORTHS[0])


@pytest.mark.parametrize("fraction_bits", [9, 13, 14, 16])
def test_a_row_of_generation_takes_eight_rounds_and_keeps_its_bound(mpc, rng, fraction_bits):
    """Rows of equal scores, of one large score, and of scores at both ends of the declared range."""
    fxp, out, shape = F("fxp16.6"), Fxp(32, fraction_bits), (12, 37)
    x = rng.normal(size=shape) * np.geomspace(0.1, 60, 12)[:, None]
    x[0], x[1], x[2], x[3, 5], x[4, ::2] = 0.0, 200.0, -200.0, 200.0, -200.0
    x = np.rint(np.clip(x, -200, 200) / fxp.ulp) * fxp.ulp
    keep = np.arange(37) < 30
    attributes = {"scale": 0.125, "range": 200.0, "inner": F("fxp32.14")}
    specs = [Spec(shape, fxp), Spec(keep.shape)]
    bound = SOFTMAX.error(*specs, out=out, **attributes)
    assert planned(shape, fxp, out, ROUND_WORTHS[0], **attributes).counts(ROUND_WORTHS[0])
    for dealer in range(3):
        outcome = mpc(SOFTMAX.run, (x, fxp), keep, out=out, dealer=dealer, **attributes)
        exact = SOFTMAX.reference(x, keep, scale=0.125)
        assert np.max(np.abs(outcome.value - exact)) <= min(bound, 1e-3 + 1.5 * out.ulp)
        assert not outcome.value[:, 30:].any()
        outcome.assert_cost(SOFTMAX.cost(*specs, out=out, **attributes), dealer)
        assert max(each.rounds for each in outcome.traffic) == 8
