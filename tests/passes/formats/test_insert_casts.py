"""Test insert_casts: every change of format is a composite that rounds to the target grid."""

import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.ir.rounding import round_to
from ditto_spu.passes.formats.insert_casts import ENCODED, LIFTED

X = np.ones((2, 3), np.float32)
W = np.ones((3, 4), np.float32)


def casts(program):
    found = [ir.composite_attributes(op) for op in program.ops("ditto.cast")]
    return [(each["from"], each["to"]) for each in found]


def test_a_public_program_stays_as_it_is(compile_to):
    before, after = (
        compile_to(lambda x: x + 1.0, X, to=stage, public=("x",)) for stage in ("assigned", "cast")
    )
    assert before.lines() == after.lines()


def test_one_format_needs_no_cast_but_the_owners(compile_to):
    program = compile_to(lambda x, y: x + y - x, X, X)
    assert casts(program) == [(ENCODED, "fxp32.12")] * 2


def test_an_argument_is_encoded_once_for_all_its_users(compile_to):
    assert casts(compile_to(lambda x: (x + x, -x, x.T), X)) == [(ENCODED, "fxp32.12")]


def test_a_product_is_cast_from_its_natural_format(compile_to):
    program = compile_to(lambda x, w: x @ w, X, W)
    assert casts(program)[2:] == [("fxp32.24", "fxp32.12")]
    (returned,) = ir.ops(ir.body(ir.main(program.module)))[-1].operands
    assert ir.composite_name(ir.define(returned)) == "ditto.cast"


def test_an_operand_is_cast_where_its_user_wants_another_format(compile_to):
    config = {"default": "fxp32.12", "rule": [{"op": "tanh", "operand": "fxp16.9"}]}
    program = compile_to(lambda x, y: (jnp.tanh(x + y), x + y), X, X, config=config)
    assert casts(program)[2:] == [("fxp32.12", "fxp16.9")]


def test_integers_are_not_rounded(compile_to):
    assert casts(compile_to(lambda n: n[::-1], np.arange(3, dtype=np.int32))) == []


def test_public_operands_of_local_operations_stay_real(compile_to):
    assert casts(compile_to(lambda x, b: x + b, X, X, public=("b",))) == [(ENCODED, "fxp32.12")]
    assert LIFTED not in dict(casts(compile_to(lambda x: x + 1.5, X)))


@pytest.mark.parametrize("bits", [0, 4, 12])
def test_a_cast_rounds_to_the_nearest_point_of_the_grid(bits, rng):
    x = rng.normal(size=100).astype(np.float32)
    rounded = np.asarray(round_to(x, bits))
    assert np.array_equal(rounded * 2**bits, np.rint(x * np.float32(2**bits)))


def test_the_emulation_is_on_the_grid_and_near_the_program(compile_to, rng):
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3), (3, 4)))
    (result,) = ir.evaluate(compile_to(lambda x, w: x @ w, X, W).module, [x, w])
    assert np.array_equal(result * 2**12, np.rint(result * 2**12))
    np.testing.assert_allclose(result, x @ w, atol=4e-3)
