"""Tests local steps on numpy.

Every operation does the same as on XLA, also on elements that wrap. Steps with other operations run on XLA.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ditto_spu import ir
from ditto_spu.runtime import local_steps

RNG = np.random.default_rng(3)


def elements(*shape, dtype=np.int32):
    bounds = np.iinfo(dtype)
    return RNG.integers(bounds.min, bounds.max, shape, dtype=dtype, endpoint=True)


def source_of(function, *args):
    module = ir.parse(str(jax.jit(function).lower(*args).compiler_ir("stablehlo")))
    ir.inline_calls(module)
    return ir.text(module)


X = elements(3, 4, 5)
CASES = {
    "add": (lambda x, y: x + y, elements(2, 3), elements(2, 3)),
    "subtract": (lambda x, y: x - y, elements(7, dtype=np.int8), elements(7, dtype=np.int8)),
    "multiply": (lambda x, y: x * y, elements(4, dtype=np.int16), elements(4, dtype=np.int16)),
    "negate": (lambda x: -x, np.array([np.iinfo(np.int32).min, 0, 5], np.int32)),
    "scalars": (lambda x, y: -(x + y) * y, elements(), elements()),
    "reshape": (lambda x: x.reshape(5, 12), X),
    "to a scalar": (lambda x: x.reshape(()), elements(1, 1)),
    "transpose": (lambda x: x.transpose(2, 0, 1), X),
    "broadcast": (lambda x: lax.broadcast_in_dim(x, (2, 4, 3), (1,)), elements(4)),
    "broadcast of ones": (lambda x: lax.broadcast_in_dim(x, (4, 3), (0, 1)), elements(4, 1)),
    "slice": (lambda x: x[1:3, ::2, 4:0:-2], X),
    "concatenate": (lambda x, y: jnp.concatenate([x, y], 1), elements(2, 1), elements(2, 3)),
    "empty": (lambda x: x[:0].transpose(1, 0), elements(3, 2)),
    "reverse": (lambda x: jnp.flip(x, (0, 2)), X),
    "dynamic_slice": (lambda x, i: lax.dynamic_slice(x, (i, i, i), (2, 2, 2)), X, np.int32(1)),
    "dynamic_slice, clamped": (lambda x, i: lax.dynamic_slice(x, (i, i, i), (2, 2, 2)), X, np.int32(4)),
    "dynamic_update_slice": (
        lambda x, y, i: lax.dynamic_update_slice(x, y, (i, i, i)), X, elements(1, 2, 3), np.int32(1),
    ),
    "dynamic_update_slice, clamped": (
        lambda x, y, i: lax.dynamic_update_slice(x, y, (i, i, i)), X, elements(1, 2, 3), np.int32(-9),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_as_xla_does_it(case):
    function, *args = CASES[case]
    source = source_of(function, *args)
    with np.errstate(over="ignore"):
        results = local_steps.evaluate(source, args)
    for result, expected in zip(results, ir.evaluate(source, args), strict=True):
        assert result.dtype == expected.dtype and result.shape == expected.shape
        assert np.array_equal(result, expected)
        assert result.flags.c_contiguous


def test_every_operation_of_the_table_has_a_case():
    sources = "".join(source_of(function, *args) for function, *args in CASES.values())
    for name in local_steps.TABLE:
        assert name in sources, name


def test_arguments_stay_as_they_are():
    x, y = elements(3), elements(1)
    before = x.copy()
    (result,) = local_steps.evaluate(
        source_of(lambda x, y: lax.dynamic_update_slice(x, y, (1,)), x, y), (x, y)
    )
    assert np.array_equal(x, before) and not np.shares_memory(result, x)


def test_dimensions_of_a_broadcast_may_be_out_of_order():
    source = """func.func @main(%x: tensor<3x4xi32>) -> tensor<4x2x3xi32> {
      %y = stablehlo.broadcast_in_dim %x, dims = [2, 0] : (tensor<3x4xi32>) -> tensor<4x2x3xi32>
      return %y : tensor<4x2x3xi32>
    }"""
    x = elements(3, 4)
    (result,) = local_steps.evaluate(source, [x])
    assert np.array_equal(result, ir.evaluate(source, [x])[0])
    assert np.array_equal(result, np.broadcast_to(x.T[:, None], (4, 2, 3)))


def test_other_operations_run_on_xla():
    def function(x, y):
        return jnp.dot(x, y), x.sum(axis=0, dtype=jnp.int32)

    args = elements(2, 3), elements(3, 2)
    source = source_of(function, *args)
    local_steps.prepare(source)
    for result, expected in zip(local_steps.evaluate(source, args), function(*args), strict=True):
        assert np.array_equal(result, expected)
