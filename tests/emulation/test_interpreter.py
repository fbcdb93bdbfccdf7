"""Tests the interpreter.

Its values are those of XLA on the module, and gradients pass unchanged through roundings.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.emulation.interpreter import as_function, straight_through
from ditto_spu.errors import UnsupportedOpError
from ditto_spu.frontend.trace import trace
from ditto_spu.models import named_model

X = np.random.default_rng(3).standard_normal((4, 6)).astype(np.float32)


def module_of(fn, *args):
    return ir.parse(trace(fn, args).module_text)


@pytest.mark.parametrize("config", ["ditto", "quad"])
def test_it_is_the_emulation_bit_for_bit(config):
    program = named_model("bert-tiny").build()
    lowered = ditto.secure(program.fn, public=program.public, config=config).lower(*program.args)
    leaves = jax.tree_util.tree_leaves(program.args)
    run = as_function(ir.parse(lowered.as_text("formats")))
    (found,) = jax.jit(run)(leaves)
    np.testing.assert_array_equal(np.asarray(found), lowered.emulate(leaves)[0])


PROGRAMS = {
    "layout": lambda x: jnp.pad(x.T[1:5:2, ::-1], ((1, 0), (0, 2)), constant_values=2.0).reshape(-1),
    "unary": lambda x: jnp.stack(
        [f(jnp.abs(x) + 0.5) for f in (jnp.log, jnp.sin, jnp.cbrt, jnp.expm1, jnp.floor)]
    ),
    "erf": lambda x: lax.erf(x) + lax.erfc(x) + lax.erf_inv(jnp.tanh(x) / 2),
    "reductions": lambda x: jnp.max(x, 0) + jnp.min(x, 0) * jnp.prod(x, 0) + jnp.sum(x, 0),
    "booleans": lambda x: jnp.where((x > 0).any(1) & ~(x > 1).all(1), 1.0, jnp.sign(x[:, 0])),
    "indices": lambda x: x[jnp.array([0, 3, 9, -1])] @ lax.dynamic_slice(x, (1, 0), (2, 6)).T,
    "update": lambda x: lax.dynamic_update_slice(x, x[:2, :3] * 9, (1, 2)) + jnp.arange(6.0),
    "integers": lambda x: (jnp.round(x * 8).astype(jnp.int32) % 5 ^ 3).astype(jnp.float32),
    "clamp": lambda x: lax.clamp(-0.5, x, 0.5) ** 3 + jnp.concatenate([x, -x])[2:6] / jnp.sqrt(x * x + 1),
    "batched": lambda x: jnp.einsum("abc,adc->abd", x.reshape(2, 2, 6), x.reshape(2, 2, 6)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_operations_mean_what_xla_computes(name):
    module = module_of(PROGRAMS[name], X)
    (found,) = jax.jit(as_function(module))([X])
    (wanted,) = ir.evaluate(module, [X])
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-6, atol=1e-6)


def test_a_rounding_has_the_slope_of_the_identity():
    assert float(straight_through(jnp.float32(0.3), 1)) == 0.5
    assert float(jax.grad(lambda x: straight_through(x, 1) ** 2)(0.3)) == 1.0  # 2 x 0.5 x 1
    tangent = jax.jvp(lambda x: straight_through(x, 3), (jnp.float32(0.3),), (jnp.float32(7.0),))[1]
    assert float(tangent) == 7.0


def test_gradients_of_the_secure_program_are_near_those_of_the_plain_one():
    program = named_model("bert-tiny").build()
    lowered = ditto.secure(program.fn, public=program.public).lower(*program.args)
    run = as_function(ir.parse(lowered.as_text("formats")))
    params, ids, mask = program.args

    def emulated(params):
        return jnp.sum(run(jax.tree_util.tree_leaves((params, ids, mask)))[0][..., :3] ** 2)

    def plain(params):
        return jnp.sum(program.fn(params, ids, mask)[..., :3] ** 2)

    pairs = zip(
        *(jax.tree_util.tree_leaves(jax.jit(jax.grad(f))(params)) for f in (emulated, plain)), strict=True
    )
    for found, wanted in pairs:
        assert np.abs(found - wanted).max() <= 0.03 * max(1.0, np.abs(wanted).max())


def test_a_watch_sees_and_exchanges_results():
    run = as_function(module_of(lambda x: (x + 1) * 2, X))
    seen = []

    def watch(op, operands, results):
        seen.append(op.name)
        return [jnp.zeros_like(results[0])] if op.name == "stablehlo.add" else results

    assert not np.asarray(run([X], watch)[0]).any()
    assert "stablehlo.multiply" in seen


def test_what_it_does_not_know_is_refused_with_its_place():
    def loop(x):
        with jax.named_scope("decoder"):
            return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, x))[1]

    with pytest.raises(UnsupportedOpError, match=r"stablehlo.while.*test_interpreter.py.*decoder"):
        as_function(module_of(loop, X))
    with pytest.raises(UnsupportedOpError, match="only sums, products, maxima"):
        as_function(module_of(lambda x: jnp.argmax(x, 1), X))([X])
