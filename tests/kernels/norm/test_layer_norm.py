"""Both norms hold for all variances in one call, with shared and public weights, at exact costs."""

import numpy as np
import pytest

from ditto_kernels.norm.layer_norm import LAYER_NORM
from ditto_kernels.norm.rms_norm import MEAN_SQUARE, RMS_NORM
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp

F = Fxp.parse
CASES = [
    ("fxp32.12", "fxp32.12", "fxp32.12", (2, 5, 96), {}),
    ("fxp32.12", "fxp32.14", "fxp32.12", (5, 384), {}),
    ("fxp32.10", "fxp32.12", "fxp32.10", (3, 64), {"eps": 1e-5}),
    ("fxp64.18", "fxp64.18", "fxp64.18", (3, 64), {"eps": 1e-5}),
    ("fxp64.18", "fxp32.14", "fxp32.12", (3, 64), {"inner": Fxp(64, 18)}),
    ("fxp32.12", None, "fxp32.12", (3, 64), {}),
    ("fxp32.12", "fxp32.12", "fxp16.8", (1, 33), {}),
    ("fxp32.12", "fxp32.12", "fxp32.16", (3, 64), {}),
    ("fxp16.7", "fxp32.12", "fxp32.12", (3, 64), {"variance": (2.0**-4, 2.0**8)}),
]


def _on(values, fxp):
    return values if fxp is None else np.rint(values / fxp.ulp) * fxp.ulp


@pytest.mark.parametrize(("source", "weights", "target", "shape", "attributes"), CASES)
def test_error_over_all_variances(mpc, source, weights, target, shape, attributes):
    rng = np.random.default_rng(0)
    fxp, weight, out = F(source), F(weights) if weights else None, F(target)
    lo, hi = attributes.get("variance", (2.0**-9, 2.0**8))
    x = rng.normal(size=shape)
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    rows = np.exp(np.linspace(np.log(lo * 1.1), np.log(hi * 0.9), x[..., 0].size)).reshape((*shape[:-1], 1))
    x = _on(x * np.sqrt(rows) + 3, fxp)
    gamma, beta = _on(rng.uniform(-2, 2, shape[-1]), weight), _on(rng.uniform(-1, 1, shape[-1]), weight)
    operands = [(x, fxp), *((value, weight) if weight else value for value in (gamma, beta))]
    specs = [Spec(shape, fxp), *(Spec(gamma.shape, weight) for _ in range(2))]
    exact = LAYER_NORM.reference(x, gamma, beta, **attributes)
    for dealer in range(3):
        outcome = mpc(LAYER_NORM.run, *operands, out=out, dealer=dealer, **attributes)
        error = np.abs(outcome.value - exact)
        assert np.max(error) <= LAYER_NORM.error(*specs, out=out, **attributes)
        if min(fxp.fraction_bits, out.fraction_bits) >= 10:
            assert np.max(error) < 0.02
            assert np.sqrt(np.mean(error**2)) < 6e-3  # This is 1.5 ulp of a mean at the least variance.
        outcome.assert_cost(LAYER_NORM.cost(*specs, out=out, **attributes), dealer)


@pytest.mark.parametrize(
    ("source", "weights", "target"),
    [("fxp16.6", "fxp16.2", "fxp32.20"), ("fxp32.10", "fxp8.0", "fxp32.16")],
)
def test_many_rows_come_to_as_many_fraction_bits_as_their_product_has(mpc, source, weights, target):
    fxp, weight, out = F(source), F(weights), F(target)
    rng, variance = np.random.default_rng(0), (2.0**-2, 2.0**4)
    x = _on(2 * rng.normal(size=(20, 64)), fxp)
    gamma, beta = _on(rng.uniform(1, 4, 64), weight), _on(rng.uniform(-4, 4, 64), weight)
    operands = [(x, fxp), (gamma, weight), (beta, weight)]
    specs = [Spec(np.shape(value), each) for value, each in operands]
    outcome = mpc(LAYER_NORM.run, *operands, out=out, variance=variance)
    error = np.abs(outcome.value - LAYER_NORM.reference(x, gamma, beta))
    assert np.max(error) <= LAYER_NORM.error(*specs, out=out, variance=variance)


def test_outliers_of_the_real_model_fit(mpc):
    fxp = Fxp(32, 12)
    x = np.zeros((2, 384))
    x[0, 7], x[1, :8] = 222.0, 60.0
    weights = (np.full(384, 2.0), fxp), (np.zeros(384), fxp)
    outcome = mpc(LAYER_NORM.run, (x, fxp), *weights, out=fxp)
    exact = LAYER_NORM.reference(x, 2.0, 0.0)
    assert np.max(np.abs(outcome.value - exact)) < 0.01


def test_a_constant_row_stays_bounded(mpc):
    fxp = Fxp(32, 12)
    outcome = mpc(LAYER_NORM.run, (np.full((1, 32), 5.0), fxp), np.ones(32), np.zeros(32), out=fxp)
    assert np.max(np.abs(outcome.value)) < 0.1


def test_only_the_last_dimension():
    fxp, weight = Fxp(32, 12), Spec((4,), Fxp(32, 12))
    with pytest.raises(ValueError, match="last dimension"):
        LAYER_NORM.cost(Spec((4, 5), fxp), weight, weight, out=fxp, dim=0)


def test_squares_that_pass_the_ring_are_refused():
    fxp, weight = Fxp(32, 14), Spec((2048,), Fxp(64, 10))
    assert RMS_NORM.cost(Spec((5, 2048), fxp), weight, out=Fxp(32, 11), variance=(1.0, 2.0**20)).rounds
    with pytest.raises(ValueError, match=r"2048 elements a row .* too many fraction bits"):
        RMS_NORM.cost(Spec((5, 2048), fxp), weight, out=Fxp(32, 11), variance=(1.0, 2.0**25))


RMS_CASES = [
    ("fxp32.14", "fxp32.14", "fxp32.11", (2, 5, 96), {}),
    ("fxp32.14", None, "fxp32.11", (5, 384), {"eps": 1e-6}),
    ("fxp32.14", "fxp32.14", "fxp32.11", (2, 4096), {}),
    ("fxp32.16", "fxp32.14", "fxp32.12", (3, 64), {"variance": (2.0**-9, 2.0**8)}),
    ("fxp64.18", "fxp64.18", "fxp64.18", (3, 64), {"variance": (2.0**-9, 2.0**8)}),
]


@pytest.mark.parametrize(("source", "weights", "target", "shape", "attributes"), RMS_CASES)
def test_rms_error_over_all_mean_squares(mpc, source, weights, target, shape, attributes):
    rng = np.random.default_rng(0)
    fxp, weight, out = F(source), F(weights) if weights else None, F(target)
    lo, hi = attributes.get("variance", MEAN_SQUARE)
    x = rng.normal(size=shape) + 1
    x = x / np.sqrt((x * x).mean(-1, keepdims=True))
    rows = np.exp(np.linspace(np.log(lo * 1.1), np.log(hi * 0.9), x[..., 0].size)).reshape((*shape[:-1], 1))
    x = _on(x * np.sqrt(rows), fxp)
    gamma = _on(rng.uniform(-2, 2, shape[-1]), weight)
    specs = [Spec(shape, fxp), Spec(gamma.shape, weight)]
    exact = RMS_NORM.reference(x, gamma, **attributes)
    for dealer in range(3):
        outcome = mpc(
            RMS_NORM.run, (x, fxp), (gamma, weight) if weight else gamma, out=out, dealer=dealer, **attributes
        )
        error = np.abs(outcome.value - exact)
        assert np.max(error) <= RMS_NORM.error(*specs, out=out, **attributes)
        assert np.max(error) < 0.006
        outcome.assert_cost(RMS_NORM.cost(*specs, out=out, **attributes), dealer)
