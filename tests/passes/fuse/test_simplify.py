"""Test simplify: operations that JAX spells out become one, and look-alikes stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir

X = np.linspace(-3, 3, 6, dtype=np.float32)


@pytest.mark.parametrize("fn", [jax.nn.sigmoid, lambda x: 1 / (jnp.exp(-x) + 1)], ids=["jax", "by hand"])
def test_a_sigmoid_is_one_operation(fn, compile_to):
    program = compile_to(fn, X, to="fused")
    assert [op.name for op in ir.ops(ir.body(ir.main(program.module)))] == [
        "stablehlo.logistic",
        "func.return",
    ]
    np.testing.assert_allclose(ir.evaluate(program.module, [X])[0], fn(X), rtol=1e-6)


@pytest.mark.parametrize(
    "fn", [lambda x: 2 / (1 + jnp.exp(-x)), lambda x: 1 / (1 + jnp.exp(x)), lambda x: 1 / (2 + jnp.exp(-x))]
)
def test_what_is_no_sigmoid_stays(fn, compile_to):
    assert not compile_to(fn, X, to="fused").ops("stablehlo.logistic")


def test_a_scale_that_is_undone_goes(compile_to):
    program = compile_to(lambda x: (x * 2.828427) / 2.828427 + 1, X, to="fused")
    assert not program.ops("stablehlo.multiply") and not program.ops("stablehlo.divide")
    assert compile_to(lambda x: (x * 3.0) / 2.0, X, to="fused").ops("stablehlo.divide")
