"""Test linearise: divisions by public values and look-ups by public ids become linear.

Nothing else may change.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir

X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
TABLE = np.arange(12, dtype=np.float32).reshape(3, 4)
IDS = np.array([2, 0, 7], np.int32)


@pytest.mark.parametrize(
    ("fn", "args", "public"),
    [
        (lambda x: x + x, (X,), ()),
        (lambda x, y: x / (y * y + 1.0), (X, X), ()),
        (lambda x, y: 1.0 / (x + 3.0), (X, X), ()),
        (lambda table, ids: jnp.take(table, ids, axis=0, mode="clip"), (TABLE, IDS), ()),
        (lambda n: n // 3, (IDS,), ()),
        (lambda x: x / 3.0, (X,), ("x",)),
    ],
    ids=["sum", "secret divisor", "public numerator", "secret ids", "integers", "all public"],
)
def test_nothing_changes(fn, args, public, compile_to):
    before, after = (compile_to(fn, *args, to=stage, public=public) for stage in ("fused", "linear"))
    assert before.lines() == after.lines()


def test_a_division_by_a_public_value_is_a_product_with_its_inverse(compile_to):
    program = compile_to(lambda x, n: x / n.astype(jnp.float32), X, np.float32(3), to="linear", public=("n",))
    product, inverse = program.op("stablehlo.multiply"), program.op("stablehlo.divide")
    assert product.operands[0] == ir.arguments(program.module)[0]
    assert product.operands[1] == inverse.results[0]
    np.testing.assert_allclose(ir.evaluate(program.module, [X, np.float32(3)])[0], X / 3, rtol=1e-6)


def test_a_quotient_may_feed_another_division(compile_to):
    def fn(x, y):
        return x / ((y / 3.0) / 5.0)

    program = compile_to(fn, X, X + 5, to="linear")
    assert len(program.ops("stablehlo.multiply")) == 2
    np.testing.assert_allclose(ir.evaluate(program.module, [X, X + 5])[0], X / ((X + 5) / 15), rtol=1e-5)


def test_a_look_up_by_public_ids_is_a_gather_that_takes_the_nearest_row(compile_to):
    def look_up(table, ids):
        return jnp.take(table, ids, axis=0)  # an id out of range is NaN in JAX, and refused when it occurs

    program = compile_to(look_up, TABLE, IDS, to="linear", public=("ids",))
    assert not program.ops("ditto.embedding")
    assert program.op("stablehlo.gather").operands[0] == ir.arguments(program.module)[0]
    np.testing.assert_array_equal(ir.evaluate(program.module, [TABLE, IDS])[0], TABLE[[2, 0, 2]])


def test_the_path_stays(compile_to):
    import jax

    def fn(x):
        with jax.named_scope("block"):
            return x / 3.0

    program = compile_to(fn, X, to="linear")
    assert ir.path_of(program.op("stablehlo.multiply")) == "block"
