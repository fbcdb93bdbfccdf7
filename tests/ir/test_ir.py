"""Test ir: paths, constants, composites, inlining, cutting out, retyping and running."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.errors import CompileError
from ditto_spu.frontend.trace import trace

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def parse(fn: Any, *args: Any) -> ir.Module:
    module = ir.parse(trace(fn, args).module_text)
    ir.inline_calls(module)
    return module


def body(module: ir.Module) -> list[ir.Op]:
    return ir.ops(ir.body(ir.main(module)))


def path(module: ir.Module, name: str) -> list[str]:
    return [ir.path_of(op) for op in ir.walk(ir.main(module)) if op.name == f"stablehlo.{name}"]


# --- paths ---


def test_paths_of_flax_modules() -> None:
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(3, name="query")(x)

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for i in range(2):
                x = Layer(name=f"layer_{i}")(x)
            return nn.Dense(3)(x) + 1.0

    params = Encoder().init(jax.random.key(0), X)
    module = parse(lambda p, x: Encoder().apply(p, x), params, X)
    assert path(module, "dot_general") == ["layer_0/query", "layer_1/query", "Dense_0"]
    assert path(module, "add")[-1] == ""


def test_paths_without_flax_are_the_scopes() -> None:
    def fn(x: Any) -> Any:
        with jax.named_scope("Attention"), jax.named_scope("scores"):
            y = jax.vmap(jnp.tanh)(x)
        return jnp.sin(y)

    module = parse(fn, X)
    assert path(module, "tanh") == ["Attention/scores"]
    assert path(module, "sine") == [""]
    assert ir.source_of(body(module)[0]).split(":")[0].endswith("test_ir.py")


def test_an_inlined_function_takes_the_path_of_its_caller() -> None:
    @jax.jit
    def shared(x: Any) -> Any:
        with jax.named_scope("inside"):
            return jnp.sum(jnp.tanh(x), keepdims=True) + x

    def fn(x: Any) -> Any:
        with jax.named_scope("first"):
            x = shared(x)
        with jax.named_scope("second"):
            return shared(x)

    module = parse(fn, X)
    assert path(module, "tanh") == ["first/inside", "second/inside"]
    assert path(module, "reduce") == ["first/inside", "second/inside"]
    assert len(ir.functions(module)) == 1
    survived = ir.clone(module)
    assert path(survived, "tanh") == ["first/inside", "second/inside"]


# --- values ---


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int32", "uint64", "float16", "bfloat16", "float32", "float64"]
)
@pytest.mark.parametrize("value", [[0, 1, 1], [1, 1, 1], [[1], [0]], 1])
def test_constants(dtype: str, value: Any) -> None:
    with jax.experimental.enable_x64():
        array = jnp.asarray(value, dtype)
        module = parse(lambda: array)
        made = next(ir.constant_value(op) for op in body(module) if op.name == "stablehlo.constant")
    if made.shape != array.shape:  # JAX broadcasts a constant of equal elements
        made = np.broadcast_to(made, array.shape)
    assert str(made.dtype) == dtype
    np.testing.assert_array_equal(made, np.asarray(array))


def test_uses_and_definitions() -> None:
    module = parse(lambda x: (x * x, x), X)
    (x,) = ir.arguments(module)
    product = body(module)[0]
    assert ir.define(x) is None and ir.define(product.results[0]) == product
    assert [op.name for op in ir.users(x)] == ["func.return", "stablehlo.multiply", "stablehlo.multiply"]
    assert (ir.shape(x), ir.element(x), ir.dtype(x)) == ((2, 3), "f32", np.float32)
    ir.replace_all_uses(product.results[0], x)
    ir.erase_dead(ir.body(ir.main(module)))
    assert [op.name for op in body(module)] == ["func.return"]


# --- building ---


def composed() -> ir.Module:
    module = parse(lambda x: jnp.tanh(x) + 1.0, X)
    tanh = body(module)[0]
    for scale in (2.0, 2.0, 3.0):

        def meaning(x: Any, scale: float = scale) -> Any:
            return x * scale

        new = ir.composite(
            module,
            "ditto.test",
            meaning,
            [tanh.results[0]],
            {"scale": scale, "dim": 1, "how": "so"},
            body(module)[1],
            tanh.location,
        )
    user = next(op for op in body(module) if op.name == "stablehlo.add")
    user.operands[0] = new
    ir.verify(module)
    return module


def test_composites() -> None:
    module = composed()
    made = [op for op in body(module) if ir.composite_name(op)]
    assert [ir.composite_attributes(op)["scale"] for op in made] == [3.0, 2.0, 2.0]
    assert ir.composite_attributes(made[-1]) == {"scale": 2.0, "dim": 1, "how": "so"}
    assert len(ir.functions(module)) == 3, "equal decompositions are one function"
    np.testing.assert_allclose(ir.evaluate(module, [X])[0], np.tanh(X) * 3 + 1, rtol=1e-6)
    again = ir.parse(ir.text(module))
    assert ir.text(again) == ir.text(module)


def test_emit_keeps_64_bit_types() -> None:
    with jax.experimental.enable_x64():
        module = parse(lambda x: x + 1, np.arange(3))
    add = body(module)[-2]
    (new,) = ir.emit(lambda x: x * 3, [add.operands[0]], add, add.location)
    add.operands[0] = new
    ir.verify(module)
    assert ir.evaluate(module, [[1, 2, 2**40]])[0].tolist() == [4, 7, 3 * 2**40 + 1]


# --- cutting out and running ---


def test_extract_with_regions_and_decompositions() -> None:
    module = composed()
    *chosen, _ = body(module)
    constants = [op for op in chosen if op.name == "stablehlo.constant"]
    others = [op for op in chosen if op not in constants]
    inputs = [*ir.arguments(module), *(op.results[0] for op in constants)]
    text = ir.extract(others, inputs, [others[-1].results[0], inputs[0]], "step")
    assert "module @step" in text
    got = ir.evaluate(text, [X, *(ir.constant_value(op) for op in constants)])
    np.testing.assert_allclose(got[0], np.tanh(X) * 3 + 1, rtol=1e-6)
    np.testing.assert_array_equal(got[1], X)
    with pytest.raises(CompileError, match="neither an input of 'step' nor made in it"):
        ir.extract(others, ir.arguments(module), [others[-1].results[0]], "step")


def test_retyped_linear_programs_run_on_integers() -> None:
    module = parse(lambda x, y: jnp.sum(jnp.transpose(x @ y) - y[:2, :2], axis=1), X, X.T)
    chosen = [op for op in body(module)[:-1] if op.name != "stablehlo.constant"]
    constants = [op.results[0] for op in body(module) if op.name == "stablehlo.constant"]
    output = body(module)[-1].operands[0]
    text = ir.extract(chosen, [*ir.arguments(module), *constants], [output], "linear")
    for element, dtype in (("i32", np.int32), ("i64", np.int64)):
        a, b = (X * 2**20).astype(dtype), X.T.astype(dtype)
        (got,) = ir.evaluate(ir.retype(text, element), [a, b, *([0] * len(constants))])
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, ((a @ b).T - b[:2, :2]).sum(1))


def test_evaluate_all_element_types() -> None:
    with jax.experimental.enable_x64():
        args = (
            np.array([True, False]),
            np.int64(2**40),
            jnp.ones(2, jnp.bfloat16),
            np.float64(0.1),
            np.uint8(3),
        )
        module = parse(lambda *a: a, *args)
    for new, old in zip(ir.evaluate(module, args), args, strict=True):
        assert new.dtype == np.asarray(old).dtype
        np.testing.assert_array_equal(new, np.asarray(old))


def test_code_without_a_file_has_a_line_and_a_caller() -> None:
    space: dict[str, Any] = {}
    exec("def program(x):\n    y = x * 2\n    return y - 1\n", space)
    module = ir.parse(trace(space["program"], (X,)).module_text)
    lines = [ir.source_of(op) for op in body(module)[:-1] if op.name != "stablehlo.constant"]
    assert any(each.startswith("line 2 of code without a file, called at ") for each in lines)
    assert all("test_ir.py" in each for each in lines if each.startswith("line "))


def test_a_function_that_jax_traced_for_another_line_gets_the_line_of_its_call() -> None:
    def first(n: Any) -> Any:
        return jnp.cumsum(n)

    def second(n: Any) -> Any:
        return 1 + jnp.cumsum(n)

    def place(function: Any) -> str:
        module = ir.parse(trace(function, (np.arange(5, dtype=np.float32),)).module_text)
        ir.inline_calls(module)
        (made,) = [
            (ir.name_of(op), ir.source_of(op))
            for op in ir.walk(ir.main(module))
            if op.name == "stablehlo.reduce_window"
        ]
        assert made[0].endswith("reduce_window_sum")
        return made[1].rpartition("/")[2]

    for function in (first, second):
        assert place(function) == f"test_ir.py:{function.__code__.co_firstlineno + 1}"
