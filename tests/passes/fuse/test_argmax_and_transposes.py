"""Test that one-hot argmax is recognised as JAX writes it, and that products drop transpositions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.frontend.trace import trace
from ditto_spu.passes.fuse.fuse import fuse

X = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
EXPECTED = np.asarray(jax.nn.one_hot(jnp.argmax(X, -1), 5))


def fused(fn, *args):
    traced = trace(fn, args)
    module = fuse(ir.parse(traced.module_text), traced.public)
    return module, [op.name if not ir.composite_name(op) else ir.composite_name(op) for op in _ops(module)]


def _ops(module):
    return ir.ops(ir.body(ir.main(module)))


FOUND = {
    "one_hot of argmax": lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 5),
    "compared with arange": lambda x: (jnp.arange(5) == jnp.argmax(x, -1, keepdims=True)).astype(x.dtype),
    "the other way round": lambda x: (jnp.argmax(x, -1, keepdims=True) == jnp.arange(5)).astype(x.dtype),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_one_hot_argmax_is_one_composite_with_the_same_result(name):
    module, names = fused(FOUND[name], X)
    assert "ditto.argmax" in names and "stablehlo.reduce" not in names
    np.testing.assert_array_equal(ir.evaluate(module, [X])[0], EXPECTED)


def test_along_the_first_dimension():
    module, names = fused(lambda x: jax.nn.one_hot(jnp.argmax(x, 0), 3, axis=0), X)
    assert "ditto.argmax" in names
    np.testing.assert_array_equal(
        ir.evaluate(module, [X])[0], np.asarray(jax.nn.one_hot(X.argmax(0), 3, axis=0))
    )


NOT_FOUND = {
    "argmin": lambda x: jax.nn.one_hot(jnp.argmin(x, -1), 5),
    "another size": lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 6),
    "shifted": lambda x: jax.nn.one_hot(jnp.argmax(x, -1) + 1, 5),
    "greater": lambda x: (jnp.arange(5) >= jnp.argmax(x, -1, keepdims=True)).astype(x.dtype),
    "another axis": lambda x: (jnp.arange(5)[:, None] == jnp.argmax(x, -1)).astype(x.dtype),
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_look_alikes_compute_the_place_itself(name):
    module, names = fused(NOT_FOUND[name], X)
    assert "ditto.argmax" in names and any(
        each in names for each in ("stablehlo.multiply", "stablehlo.dot_general")
    )
    np.testing.assert_array_equal(ir.evaluate(module, [X])[0], np.asarray(NOT_FOUND[name](X)))


def test_it_runs_on_its_kernel_as_zeros_and_ones():
    secure = ditto.secure(FOUND["one_hot of argmax"], config={"default": "fxp32.12"})
    result = secure.run(X)
    np.testing.assert_array_equal(result.outputs, EXPECTED)
    (row,) = result.report.rows
    assert (row.kind, row.format) == ("argmax", "fxp32.0")


PRODUCTS = {
    "right": (lambda a, b: a @ b.T, (2, 3), (4, 3)),
    "left": (lambda a, b: a.T @ b, (3, 2), (3, 4)),
    "batched": (lambda a, b: jnp.einsum("hqd,khd->hqk", a, b), (2, 3, 4), (5, 2, 4)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_takes_transposed_operands_as_they_lie(name):
    fn, *shapes = PRODUCTS[name]
    args = [np.random.default_rng(i).normal(size=shape).astype(np.float32) for i, shape in enumerate(shapes)]
    module, names = fused(fn, *args)
    assert "stablehlo.transpose" not in names
    np.testing.assert_allclose(ir.evaluate(module, args)[0], np.asarray(fn(*args)), rtol=1e-5, atol=1e-6)


def test_a_transposition_that_orders_the_result_stays():
    a, b = np.ones((2, 3, 4), np.float32), np.ones((4, 5), np.float32)
    _, names = fused(lambda a, b: jnp.transpose(a, (1, 0, 2)) @ b, a, b)
    assert "stablehlo.transpose" in names


def test_a_product_may_have_the_bit_more_that_doubling_gives():
    """A one-hot times a table is exact, and takes one product of matrices at each party."""
    rules = [{"op": "input", "path": "hot", "format": "fxp32.0"}, {"op": "weight", "format": "fxp32.13"}]
    rules.append({"op": "matmul", "format": "fxp32.14", "operand": "fxp32.0"})
    hot, table = np.eye(4, dtype=np.float32)[[2, 0, 3]], np.round(X.T[:4] * 64) / 64

    def look_up(hot, table):
        return hot @ table

    secure = ditto.secure(look_up, config={"default": "fxp32.12", "rule": rules})
    result = secure.run(hot, table)
    np.testing.assert_array_equal(result.outputs, hot @ table)
    (row,) = result.report.rows
    assert (row.format, row.rounds) == ("fxp32.14", 1)
