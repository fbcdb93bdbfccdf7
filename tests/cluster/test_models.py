"""Tests that parties run the plans of all small models: what a client compiles passes their checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import secure
from ditto_spu.models import MODELS

X = np.linspace(-2, 2, 24).reshape(4, 6).astype(np.float32)
TINY = [name for name in MODELS if name.endswith("-tiny")]
# Functions that JAX or the compiler writes as composites, or as functions that call functions.
FUNCTIONS = {
    "relu": lambda x: jax.nn.relu(x @ x.T),
    "maximum": lambda x: jnp.maximum(x @ x.T, 0.5),
    "clip": lambda x: jnp.clip(x, -1.0, 0.5) * x,
    "leaky": lambda x: jax.nn.leaky_relu(x.sum(0)),
    "where": lambda x: jnp.where(x > 0, x, -x),
    "softmax": lambda x: jax.nn.softmax(jax.nn.relu(x)),
    "minimum": lambda x: jnp.minimum(x, x[:1]),
    "sort": lambda x: jnp.sort(x, axis=1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_with_composites_pass_the_parties_checks(alice, name):
    function = FUNCTIONS[name]
    np.testing.assert_allclose(alice.run(secure(function), X).outputs, function(X), atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_small_model_runs_on_a_cluster_as_in_a_simulation(alice, name):
    program = MODELS[name].build()
    function = secure(program.fn, **program.options)
    held = function.hold(**program.held)
    outputs = alice.run(held, *program.inputs).outputs
    simulated, plain = function.run(*program.args).outputs, program.fn(*program.args)
    for one, other, right in zip(*map(jax.tree_util.tree_leaves, (outputs, simulated, plain)), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        scale = float(np.abs(right).max())
        np.testing.assert_allclose(one, other, atol=0.01 * scale)
        np.testing.assert_allclose(one, right, atol=0.03 * scale)
