"""Softmax is tested for accuracy, row sums, far scores, masks of both kinds, approximations and costs."""

import numpy as np
import pytest

from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.softmax.plan import largest_score, plan_softmax
from ditto_kernels.softmax.softmax import SOFTMAX
from ditto_kernels.values.formats import Fxp

F = Fxp.parse
CASES = [
    ("fxp16.8", "fxp32.14", (4, 7, 32), {}),
    ("fxp16.8", "fxp16.14", (2, 128), {}),
    ("fxp16.8", "fxp16.14", (3, 128), {"inner": Fxp(32, 12)}),
    ("fxp16.8", "fxp32.14", (3, 40), {"inner": Fxp(64, 18)}),
    ("fxp32.12", "fxp32.16", (5, 33), {"scale": 0.125}),
    ("fxp32.12", "fxp32.14", (5, 33), {"range": 60.0}),
    ("fxp16.6", "fxp32.14", (4, 37), {"scale": 0.125, "inner": Fxp(32, 14), "range": 200.0}),
    ("fxp16.8", "fxp32.14", (5, 33), {"scale": 0.125, "range": 50.0}),
    ("fxp64.18", "fxp64.18", (3, 5), {}),
    ("fxp16.8", "fxp32.14", (6, 1), {}),
    ("fxp16.8", "fxp32.18", (2, 9, 3), {"dim": 1, "scale": -1.0}),
    ("fxp16.8", "fxp32.14", (4, 20), {"approx": "puma"}),
    ("fxp16.8", "fxp32.14", (4, 20), {"approx": "2quad", "scale": 0.5}),
    ("fxp32.12", "fxp32.14", (4, 20), {"approx": "2relu", "scale": 0.5}),
]


def _scores(shape, fxp, spread=6.0):
    x = np.random.default_rng(1).normal(size=shape) * spread
    x[-1] *= 0.02
    return np.rint(np.clip(x, -40, 40) / fxp.ulp) * fxp.ulp


def _mask(shape):
    mask = np.random.default_rng(2).random(shape) < 0.7
    mask[0], mask[-1] = True, False
    return mask


@pytest.mark.parametrize("masked", ["open", "public", "secret"])
@pytest.mark.parametrize(("source", "target", "shape", "attributes"), CASES)
def test_accuracy_masks_and_costs(mpc, source, target, shape, attributes, masked):
    fxp, out = F(source), F(target)
    x, mask = _scores(shape, fxp), None if masked == "open" else _mask(shape)
    operands = {"open": (), "public": (mask,), "secret": ((np.asarray(mask, float), Fxp(64, 0)),)}[masked]
    specs = {"open": (), "public": (Spec(shape),), "secret": (Spec(shape, Fxp(64, 0)),)}[masked]
    exact = SOFTMAX.reference(x, mask, **attributes)
    bound = min(1e-3, SOFTMAX.error(Spec(shape, fxp), *specs, out=out, **attributes))
    for dealer in range(3) if masked == "open" else (1,):
        outcome = mpc(SOFTMAX.run, (x, fxp), *operands, out=out, dealer=dealer, **attributes)
        assert np.max(np.abs(outcome.value - exact)) <= bound
        sums = outcome.value.sum(axis=attributes.get("dim", -1))
        assert np.max(np.abs(sums - 1)) < 2.0**-10 + 3 * out.ulp * np.sqrt(shape[-1])
        if masked == "public":
            kept = mask | ~mask.any(axis=attributes.get("dim", -1), keepdims=True)
            assert not outcome.value[~kept].any()
        outcome.assert_cost(SOFTMAX.cost(Spec(shape, fxp), *specs, out=out, **attributes), dealer)


@pytest.mark.parametrize(
    ("source", "attributes"), [("fxp16.6", {}), ("fxp32.12", {"range": 140.0}), ("fxp32.12", {})]
)
def test_scores_far_apart_vanish_and_never_wrap(mpc, source, attributes):
    fxp, out = F(source), Fxp(32, 16)
    x = np.rint(np.random.default_rng(3).uniform(-95.8, 95.8, (6, 128)) / fxp.ulp) * fxp.ulp
    x[0, :2], x[1] = (95.8, -95.8), 95.8
    outcome = mpc(SOFTMAX.run, (x, fxp), out=out, **attributes)
    grid = np.rint(x / fxp.ulp) * fxp.ulp
    assert np.max(np.abs(outcome.value - SOFTMAX.reference(grid))) < 3e-4
    assert np.max(np.abs(outcome.value.sum(axis=-1) - 1)) < 2.0**-10


_COARSE = [
    ("fxp16.6", 200.0, 0.125, 8, False),
    ("fxp16.6", 100.0, 0.125, 8, False),  # The coarsest grid saves an upcast.
    ("fxp16.6", 100.0, 0.25, 8, True),
    ("fxp32.8", 900.0, 0.125, 16, True),
    ("fxp32.8", 120.0, 0.125, 8, True),
    ("fxp16.6", 200.0, 1.0, None, None),
    ("fxp64.18", 2.0**26, 0.125, 32, True),
    ("fxp64.18", 2.0**20, 1.0, 32, True),
    ("fxp64.18", 60.0, 1.0, 16, True),
]


@pytest.mark.parametrize(("source", "reach", "scale", "ring", "widens"), _COARSE)
def test_a_coarse_maximum_leaves_no_distance_negative(mpc, source, reach, scale, ring, widens):
    fxp, out = F(source), F("fxp32.14")
    attributes = {"scale": scale, "range": reach, "inner": F("fxp32.14")}
    coarse = plan_softmax((96, 40), fxp, out, **attributes).coarse
    assert (coarse and coarse.ring, coarse and coarse.widens) == (ring, widens)
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, (96, 40)) * np.exp(rng.uniform(np.log(0.01), 0, (96, 1))) * reach
    x[:16, 0], x[8:24, 1:20], x[24], x[25] = reach, -reach, reach, -reach
    x = np.rint(x / fxp.ulp) * fxp.ulp
    keep = rng.random(x.shape) < 0.8
    keep[:48], keep[95] = True, False
    for mask in ((), (keep,)):
        outcome = mpc(SOFTMAX.run, (x, fxp), *mask, out=out, **attributes)
        assert np.max(np.abs(outcome.value - SOFTMAX.reference(x, *mask, scale=scale))) < 2.5e-3
    assert np.max(np.abs(outcome.value.sum(axis=-1) - 1)) < 4e-3


@pytest.mark.parametrize(("reach", "bound"), [(29.0, 2e-4), (40.0, 1e-3), (47.0, 4e-3)])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_a_bound_in_the_place_of_the_maximum(mpc, reach, bound, level):
    fxp, out, shape = F("fxp16.6"), F("fxp32.14"), (16, 128)
    attributes = {"approx": "bounded", "scale": 0.125, "range": reach}
    x = level * reach + np.random.default_rng(5).normal(size=shape) * np.linspace(0, 10, 16)[:, None]
    x = np.rint(np.clip(x, -reach, reach) / fxp.ulp) * fxp.ulp
    outcome = mpc(SOFTMAX.run, (x, fxp), out=out, **attributes)
    exact = SOFTMAX.reference(x, scale=0.125)
    assert np.max(np.abs(outcome.value - exact)) < bound
    assert np.max(np.abs(outcome.value - exact)) <= SOFTMAX.error(Spec(shape, fxp), out=out, **attributes)
    outcome.assert_cost(SOFTMAX.cost(Spec(shape, fxp), out=out, **attributes), 2)
    assert outcome.traffic[0].rounds < 20


@pytest.mark.parametrize(
    ("attributes", "operands"),
    [({}, ()), ({"range": 60.0}, ()), ({"range": 20.0}, (Spec((4, 8), Fxp(32, 0)),))],
)
def test_a_bound_that_serves_no_row_is_an_error(attributes, operands):
    spec = Spec((4, 8), F("fxp16.6"))
    with pytest.raises(ValueError, match="'bounded'"):
        SOFTMAX.cost(spec, *operands, out=F("fxp32.14"), approx="bounded", scale=0.125, **attributes)


@pytest.mark.parametrize("secret", [False, True])
def test_the_largest_admissible_score(mpc, secret):
    fxp, out = Fxp(16, 8), Fxp(32, 14)
    top = largest_score(fxp, out, 8, secret_mask=secret)
    x = np.array([[top, -top, 0, top, top - 1, -top, 1, 2], [-top] * 8])
    mask = np.array([[0, 1, 1, 0, 1, 1, 1, 1], [0] * 8])
    operand = (mask.astype(float), Fxp(32, 0)) if secret else mask.astype(bool)
    outcome = mpc(SOFTMAX.run, (x, fxp), operand, out=out)
    assert np.max(np.abs(outcome.value - SOFTMAX.reference(x, mask))) < 3e-4
    assert np.max(np.abs(outcome.value[1] - 1 / 8)) < 2e-4


def test_message_sizes_do_not_depend_on_the_mask_or_the_scores(mpc):
    fxp, out, shape = Fxp(16, 8), Fxp(32, 14), (3, 16)
    sizes = []
    for scores, mask in ((np.zeros(shape), np.ones(shape, bool)), (_scores(shape, fxp), _mask(shape))):
        outcome = mpc(SOFTMAX.run, (scores, fxp), mask, out=out)
        sizes.append([(each.bytes_sent, each.offline_bytes, each.rounds) for each in outcome.traffic])
    assert sizes[0] == sizes[1]


def test_attributes_that_no_plan_serves_are_errors():
    spec = Spec((4, 8), Fxp(16, 8))
    for attributes in ({"approx": "cubic"}, {"scale": 0.0}, {"approx": "2quad", "inner": Fxp(32, 8)}):
        with pytest.raises(ValueError, match="softmax"):
            SOFTMAX.cost(spec, out=Fxp(32, 14), **attributes)
