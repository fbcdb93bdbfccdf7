"""Test that approximations by other functions change the meaning of their composite, and nothing else."""

import jax
import numpy as np
import pytest

import ditto_spu as ditto


def _emulated(fn, config, x):
    return ditto.secure(fn, config=config).lower(x).emulate([x])[0]


def _config(op, approx):
    return {"default": "fxp64.18", "rule": [{"op": op, "approx": approx}]}


@pytest.mark.parametrize(("op", "approx"), [("gelu", "fourier"), ("softmax", "exact")])
def test_nothing_changes_for_an_approximation_of_the_same_function(op, approx, rng):
    fn = {"gelu": jax.nn.gelu, "softmax": jax.nn.softmax}[op]
    x = rng.normal(size=(3, 5)).astype(np.float32)
    assert np.max(np.abs(_emulated(fn, _config(op, approx), x) - fn(x))) < 1e-4


def test_quad_2quad_and_2relu_mean_their_own_formulas(rng):
    x = rng.normal(size=(3, 5)).astype(np.float32)
    quad = 0.125 * x * x + 0.25 * x + 0.5
    assert np.max(np.abs(_emulated(jax.nn.gelu, _config("gelu", "quad"), x) - quad)) < 1e-4
    for approx, values in (("2quad", (x + 5) ** 2), ("2relu", np.maximum(x, 0) + 0.01 / 5)):
        expected = values / values.sum(-1, keepdims=True)
        assert np.max(np.abs(_emulated(jax.nn.softmax, _config("softmax", approx), x) - expected)) < 1e-4


def test_the_emulation_shows_pumas_own_error(rng):
    x = np.linspace(-5, 5, 200, dtype=np.float32)
    error = np.abs(
        _emulated(lambda x: jax.nn.gelu(x, approximate=False), _config("gelu", "puma"), x)
        - np.asarray(jax.nn.gelu(x, approximate=False))
    )
    assert 0.015 < np.max(error) < 0.021


def test_a_fully_masked_row_stays_uniform(rng):
    mask = np.array([[True, True, False], [False, False, False]])
    x = rng.normal(size=(2, 3)).astype(np.float32)
    fn = ditto.secure(
        lambda x, mask: jax.nn.softmax(jax.numpy.where(mask, x, -1e9)),
        config=_config("softmax", "2quad"),
        public=("mask",),
    )
    emulated = fn.lower(x, mask).emulate([x, mask])[0]
    assert np.allclose(emulated[1], 1 / 3, atol=1e-4) and emulated[0, 2] == 0
