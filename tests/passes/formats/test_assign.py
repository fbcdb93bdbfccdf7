"""Test assign: rules come first, then the wishes of consumers, then the default.

Decisions are written as attributes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu import ir
from ditto_spu.errors import ConfigError
from tests.on_spu import paired

X = np.ones((2, 3), np.float32)
W = np.ones((3, 4), np.float32)
N = np.array([1, 2, 3], np.int32)


def decisions(op, *names):
    return tuple(ir.attribute(op, f"ditto.{name}") for name in names)


def rules(*rows, default="fxp32.12"):
    return {"default": default, "rule": list(rows)}


def arguments(program):
    return ir.attribute(ir.main(program.module), "ditto.arguments").split(",")


def test_nothing_is_decided_on_public_values(compile_to):
    before = compile_to(lambda x: x * 2.0 + x, X, to="linear", public=("x",))
    after = compile_to(lambda x: x * 2.0 + x, X, to="assigned", public=("x",))
    assert before.lines() == after.lines()
    assert arguments(after) == ["-"]


def test_assigning_keeps_the_program(compile_to, rng):
    x, w = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    before, after = (
        compile_to(lambda x, w: jnp.tanh(x @ w), X, W, to=stage) for stage in ("linear", "assigned")
    )
    assert np.array_equal(ir.evaluate(before.module, [x, w])[0], ir.evaluate(after.module, [x, w])[0])


def test_a_linear_operation_takes_the_default(compile_to):
    program = compile_to(lambda x, y: x + y, X, X, to="assigned")
    assert decisions(program.op("stablehlo.add"), "kind", "format", "operands") == (
        "local",
        "fxp32.12",
        "fxp32.12,fxp32.12",
    )
    assert arguments(program) == ["fxp32.12", "fxp32.12"]


def test_a_linear_operation_meets_the_finest_of_its_operands(compile_to):
    config = rules({"op": "tanh", "format": "fxp32.14"}, {"op": "sigmoid", "format": "fxp16.9"})
    program = compile_to(lambda x, y: jnp.tanh(x) + jax.nn.sigmoid(y), X, X, to="assigned", config=config)
    assert decisions(program.op("stablehlo.add"), "format", "operands") == ("fxp32.14", "fxp32.14,fxp32.14")


def test_an_unused_argument_takes_the_default(compile_to):
    assert arguments(compile_to(lambda x, y: x, X, X, to="assigned")) == ["fxp32.12", "fxp32.12"]


def test_a_rearranged_argument_takes_the_format_of_its_consumer(compile_to):
    config = rules({"op": "tanh", "operand": "fxp16.9"})
    program = compile_to(lambda x: jnp.tanh(x.T[::-1]), X, to="assigned", config=config)
    assert arguments(program) == ["fxp16.9"]
    assert decisions(program.op("stablehlo.transpose"), "format") == ("fxp16.9",)


def test_a_product_has_the_fraction_bits_of_both_operands_before_its_cast(compile_to):
    config = rules({"op": "matmul", "operand": "fxp32.10"}, {"op": "weight", "format": "fxp32.8"})
    program = compile_to(lambda x, w: x @ w, X, W, to="assigned", config=config)
    assert decisions(program.op("stablehlo.dot_general"), "kind", "natural", "format", "operands") == (
        "matmul",
        "fxp32.18",
        "fxp32.12",
        "fxp32.10,fxp32.8",
    )


def test_a_product_takes_the_format_that_its_consumer_wants(compile_to):
    config = rules({"op": "tanh", "operand": "fxp16.9"})
    program = compile_to(lambda x, w: jnp.tanh(x @ w), X, W, to="assigned", config=config)
    assert decisions(program.op("stablehlo.dot_general"), "format") == ("fxp16.9",)


def test_a_rule_for_the_format_beats_the_consumer(compile_to):
    config = rules({"op": "tanh", "operand": "fxp16.9"}, {"op": "matmul", "format": "fxp32.14"})
    program = compile_to(lambda x, w: jnp.tanh(x @ w), X, W, to="assigned", config=config)
    assert decisions(program.op("stablehlo.dot_general"), "format") == ("fxp32.14",)
    assert decisions(program.op("stablehlo.tanh"), "operands") == ("fxp16.9",)


def test_consumers_that_disagree_leave_the_default(compile_to):
    config = rules({"op": "tanh", "operand": "fxp16.9"}, {"op": "sigmoid", "operand": "fxp16.7"})
    program = compile_to(
        lambda x, w: jnp.tanh(x @ w) + jax.nn.sigmoid(x @ w), X, W, to="assigned", config=config
    )
    assert decisions(program.op("stablehlo.dot_general"), "format") == ("fxp32.12",)


def test_a_narrow_result_stays_in_the_ring_where_narrowing_is_not_free(compile_to):
    # 32 - (24 - 6) = 14 bits survive a local narrowing, which is too few for ring 16.
    program = compile_to(
        lambda x, w: x @ w, X, W, to="assigned", config=rules({"op": "matmul", "format": "fxp16.6"})
    )
    assert decisions(program.op("stablehlo.dot_general"), "format") == ("fxp32.6",)


def test_a_public_operand_of_a_product_is_encoded_as_a_weight(compile_to):
    program = compile_to(lambda x, w: x @ w, X, W, to="assigned", public=("w",))
    assert decisions(program.op("stablehlo.dot_general"), "factor", "operands") == ("fxp32.12", "fxp32.12,-")


def test_a_power_of_two_only_moves_the_point(compile_to):
    program = compile_to(lambda x: (x + x) * 8.0, X, to="assigned")
    assert decisions(program.op("stablehlo.multiply"), "kind", "format", "natural") == (
        "retag",
        "fxp32.9",
        None,
    )


def test_fraction_bits_that_nobody_asked_for_are_dropped(compile_to):
    program = compile_to(lambda x: (x + x) * 0.25, X, to="assigned")
    assert decisions(program.op("stablehlo.multiply"), "kind", "format", "natural") == (
        "retag",
        "fxp32.12",
        "fxp32.14",
    )
    config = rules({"op": "multiply", "format": "fxp32.14"})
    program = compile_to(lambda x: (x + x) * 0.25, X, to="assigned", config=config)
    assert decisions(program.op("stablehlo.multiply"), "format", "natural") == ("fxp32.14", None)


def test_other_factors_are_multiplied_in_ring_64_and_narrowed(compile_to):
    program = compile_to(lambda x: x * 0.3, X, to="assigned")
    kind, format_, natural = decisions(program.op("stablehlo.multiply"), "kind", "format", "natural")
    assert (kind, format_) == ("scale", "fxp32.12")
    assert natural.startswith("fxp64.")


def test_a_factor_of_which_only_a_run_knows_the_size_has_a_kernel(compile_to):
    program = compile_to(lambda x, m: x * m, X, np.ones(3, np.float32), to="assigned", public=("m",))
    found = decisions(program.op("stablehlo.multiply"), "kind", "format", "operands", "natural")
    assert found == ("kernel", "fxp32.12", "fxp64.12,-", None)


def test_a_small_factor_gives_products_that_read_it_more_bits(compile_to):
    config = {"default": "fxp64.18"}
    for fn, format_ in ((lambda x: x * 1e-3 * x, "fxp64.27"), (lambda x: x * 1e-3 + x, "fxp64.18")):
        program = compile_to(fn, X, to="assigned", config=config)
        assert decisions(program.ops("stablehlo.multiply")[0], "kind", "format") == ("scale", format_)


def test_products_keep_the_bits_that_their_readers_scale_away(compile_to):
    config = {"default": "fxp64.18"}
    for factor, bits in (
        (1e-3, ["fxp64.22", "fxp64.31"]),
        (0.3, ["fxp64.19", "fxp64.20"]),
        (3.0, ["fxp64.18"] * 2),
    ):
        program = compile_to(lambda x, f=factor: x * x * f * 7.1, X, to="assigned", config=config)
        products = program.ops("stablehlo.multiply")
        assert [decisions(each, "format")[0] for each in products[:2]] == bits


def test_a_known_range_leaves_a_small_product_its_bits(compile_to):
    config = {"default": "fxp64.18", "rule": [{"op": "multiply", "number": 1, "of": 2, "range": 0.01}]}
    program = compile_to(lambda x: x * 1e-3 * x, X, to="assigned", config=config)
    assert decisions(program.ops("stablehlo.multiply")[0], "format")[0] == "fxp64.27"


def test_a_declared_range_keeps_the_product_with_a_factor_in_its_ring(compile_to):
    config = rules({"op": "multiply", "range": 30.0})
    program = compile_to(lambda x: x * 0.3, X, to="assigned", config=config)
    assert decisions(program.op("stablehlo.multiply"), "natural", "range") == ("fxp32.24", "30")


def test_a_converted_integer_needs_no_truncation(compile_to):
    program = compile_to(lambda x, n: x * n, X, N, to="assigned", public=("n",))
    assert decisions(program.op("stablehlo.multiply"), "factor", "format", "natural") == (
        "fxp32.0",
        "fxp32.12",
        None,
    )


def test_integers_and_booleans_are_integers_of_ring_64(compile_to):
    program = compile_to(lambda n, b: (n[::-1], b[::-1]), N, N > 1, to="assigned")
    assert arguments(program) == ["fxp64.0", "fxp64.0"]
    assert {decisions(op, "kind", "format") for op in program.ops("stablehlo.reverse")} == {
        ("local", "fxp64.0")
    }


def test_what_no_kernel_does_is_spus_in_its_format(compile_to):
    program = compile_to(lambda x: paired(x) + 1.0, X, to="assigned")
    assert decisions(program.op("stablehlo.reduce_window"), "kind", "format") == ("spu", "fxp64.18")
    assert decisions(program.op("stablehlo.add"), "kind", "format") == ("spu", "fxp64.18")  # it stays on SPU
    assert arguments(program) == ["fxp64.18"]


def test_a_kernel_carries_its_approximation_inner_format_and_range(compile_to):
    row = {"op": "softmax", "approx": "puma", "operand": "fxp32.8", "inner": "fxp64.18", "range": 2.0}
    program = compile_to(lambda x: jax.nn.softmax(x), X, to="assigned", config=rules(row))
    assert decisions(program.op("ditto.softmax"), "approx", "operands", "inner", "range") == (
        "puma",
        "fxp32.8",
        "fxp64.18",
        "2",
    )


def test_rules_speak_about_paths(compile_to):
    def fn(x, w):
        with jax.named_scope("first"):
            x = jnp.tanh(x)
        with jax.named_scope("second"):
            return jnp.tanh(x)

    config = rules({"op": "tanh", "path": "second", "format": "fxp16.9"})
    program = compile_to(fn, X, W, to="assigned", config=config)
    assert [decisions(op, "path", "format") for op in program.ops("stablehlo.tanh")] == [
        ("first", "fxp32.12"),
        ("second", "fxp16.9"),
    ]


def test_a_rule_that_does_nothing_is_refused(compile_to):
    with pytest.raises(ConfigError, match="no op of this program takes a value from this rule"):
        compile_to(lambda x: x + x, X, to="assigned", config=rules({"op": "gelu", "approx": "quad"}))


def test_a_rule_for_an_input_fixes_the_format_in_which_it_is_shared():
    def fn(state, x):
        return state["a"] + x, state["b"] * 2.0

    rules = [{"op": "input", "path": "state/a", "format": "fxp32.9"}]
    secure = ditto.secure(fn, config={"default": "fxp32.12", "rule": rules})
    x = np.ones(3, np.float32)
    plan = secure.lower({"a": x, "b": x}, x).plan
    formats = {each.path: str(plan.vars[each.var].fxp) for each in plan.inputs}
    assert formats == {"state/a": "fxp32.9", "state/b": "fxp32.12", "x": "fxp32.9"}


def test_rotated_values_are_truncated_once(compile_to):
    def rotate(x, at):
        x, angle = jnp.tanh(x), at[:, None].astype(jnp.float32) * jnp.ones(3)
        return x * jnp.cos(angle) + x[:, ::-1] * jnp.sin(angle)

    config = rules({"op": "multiply", "range": 60})
    positions = np.array([0, 1], np.int32)
    program = compile_to(rotate, X, positions, to="assigned", public=("at",), config=config)
    assert decisions(program.op("stablehlo.add"), "natural", "format") == ("fxp32.23", "fxp32.12")
    products = [op for op in ir.walk(ir.main(program.module)) if ir.attribute(op, "ditto.kind") == "scale"]
    assert [decisions(op, "natural", "format", "factor") for op in products] == [
        (None, "fxp32.23", "fxp32.11")
    ] * 2
    # Without room for the sum, each product is truncated alone.
    config = rules({"op": "multiply", "range": 70})
    program = compile_to(rotate, X, positions, to="assigned", public=("at",), config=config)
    assert decisions(program.op("stablehlo.add"), "natural", "format") == (None, "fxp32.12")


def test_weights_of_rms_norm_are_rounded_by_their_owner(compile_to):
    def normalise(x, w):
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * w

    program = compile_to(
        normalise, X, X[0], to="assigned", config=rules({"op": "rms_norm", "operand": "fxp32.14"})
    )
    assert arguments(program) == ["fxp32.14", "fxp64.10"]


def test_a_table_has_the_bits_that_its_rows_are_wanted_with(compile_to):
    def embed(table, ids):
        x = jnp.take(table, ids, axis=0, mode="clip")
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)

    config = rules({"op": "rms_norm", "operand": "fxp32.14"})
    assert arguments(compile_to(embed, W, N % 3, to="assigned", config=config))[0] == "fxp32.14"
