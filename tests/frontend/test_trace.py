"""Test trace: the module, the pytrees, the public arguments, and one test per error of a user's call."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ditto_spu import ir
from ditto_spu.errors import InputError
from ditto_spu.frontend.trace import trace

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(params: Any, ids: Any, mask: Any = None) -> Any:
    return params["layer"]["w"][0] @ ids if mask is None else mask


def paths(traced: Any) -> list[str]:
    return [each.path for each in traced.arguments]


def run(traced: Any, *leaves: Any) -> Any:
    return jax.tree_util.tree_unflatten(traced.out_tree, ir.evaluate(traced.module_text, leaves))


def test_arguments_in_order_with_paths() -> None:
    traced = trace(model, ({"layer": {"w": (X, X[0]), "b": 1.5}}, X.T), public=("ids",))
    assert paths(traced) == ["params/layer/b", "params/layer/w/0", "params/layer/w/1", "ids"]
    assert [each.dtype for each in traced.arguments] == ["float32"] * 4
    assert [each.shape for each in traced.arguments] == [(), (2, 3), (3,), (3, 2)]
    assert traced.public == (False, False, False, True)
    assert [(each.shape, each.dtype) for each in traced.outputs] == [((2, 2), np.float32)]
    np.testing.assert_array_equal(run(traced, 1.5, X, X[0], X.T), X @ X.T)


def test_keyword_variadic_and_default_arguments() -> None:
    def fn(a: Any, *rest: Any, scale: Any = 2.0, **more: Any) -> Any:
        return {"sum": a + sum(rest), "more": more}, scale

    traced = trace(fn, (X, X, X), {"z": 1, "y": X}, public=("rest", "more"))
    assert paths(traced) == ["a", "rest/0", "rest/1", "y", "z"]
    assert traced.public == (False, True, True, True, True)
    outputs, scale = run(traced, X, X, X, X, 1)
    assert scale == 2.0 and outputs["more"]["z"] == 1
    np.testing.assert_array_equal(outputs["sum"], 3 * X)


def test_static_arguments_by_number_and_by_name() -> None:
    def fn(x: Any, n: int, axis: int) -> Any:
        return jnp.sum(x, axis) * n

    for how in ({"static_argnums": (1, 2)}, {"static_argnames": ("n", "axis")}, {"static_argnums": (1, -1)}):
        traced = trace(fn, (X, 3, 0), **how)  # type: ignore[arg-type]
        assert paths(traced) == ["x"]
        np.testing.assert_array_equal(run(traced, X), X.sum(0) * 3)
    traced = trace(fn, (X,), {"axis": 1, "n": 3}, static_argnames=("n", "axis"))
    np.testing.assert_array_equal(run(traced, X), X.sum(1) * 3)


def test_nested_jit_closures_partials_and_scalars() -> None:
    constant = jnp.arange(3.0)

    @jax.jit
    def inner(x: Any, y: Any) -> Any:
        return x + y * constant, y

    traced = trace(functools.partial(inner, y=np.float32(2)), (X,))
    np.testing.assert_array_equal(run(traced, X)[0], X + 2 * np.arange(3))
    assert paths(traced) == ["x"]
    assert run(trace(lambda a, b, c: (a, b + 1, c), (1, 2.5, True)), 1, 2.5, True) == (1, 3.5, True)


def test_unused_arguments_stay_and_there_may_be_none() -> None:
    assert paths(trace(lambda a, b: a, (X, X))) == ["a", "b"]
    assert paths(trace(lambda a, b: a, (X, None))) == ["a"]
    assert run(trace(lambda: jnp.ones(2), ())).tolist() == [1, 1]


def test_shapes_instead_of_arrays() -> None:
    traced = trace(lambda x: x * 2, (jax.ShapeDtypeStruct((4,), jnp.float32),))
    assert traced.arguments[0].shape == (4,)


def test_types_follow_the_users_flag() -> None:
    double = np.arange(3.0)
    assert trace(lambda x: x, (double,)).arguments[0].dtype == "float32"
    with jax.experimental.enable_x64():
        assert trace(lambda x: x, (double,)).arguments[0].dtype == "float64"
    assert not jax.config.jax_enable_x64


def test_module_text_is_clean_and_has_paths() -> None:
    def fn(x: Any) -> Any:
        with jax.named_scope("block/attention"):
            return jnp.tanh(x)

    module = ir.parse(trace(fn, (X,)).module_text)
    assert "mhlo." not in ir.text(module) and "jax." not in ir.text(module)
    assert [ir.path_of(op) for op in ir.walk(ir.main(module)) if "tanh" in op.name] == ["block/attention"]


# --- errors ---


def refuse(match: str, *args: Any, fn: Any = model, **how: Any) -> None:
    with pytest.raises(InputError, match=match):
        trace(fn, args, **how)


def test_unknown_public_name() -> None:
    refuse(
        "public names 'mas', but the parameters of model are params, ids, mask: did you mean 'mask'",
        X,
        X,
        public=("mas",),
    )
    refuse(r"write public=\('mask',\)", X, X, public="mask")


def test_unknown_static_name() -> None:
    refuse("static_argnames has 'idss': did you mean 'ids'", X, X, static_argnames="idss")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_secret_nan_and_infinity(bad: float) -> None:
    wrong = X.copy()
    wrong[1, 2] = bad
    refuse(
        r"secret argument 'params/layer/w' holds NaN or infinity \(first at \[1, 2\]\)",
        {"layer": {"w": wrong}},
        X,
    )
    half = jnp.asarray(wrong, jnp.bfloat16)
    refuse("secret argument 'ids' holds NaN", {"layer": {"w": X}}, half)
    trace(lambda x: x, (wrong,), public=("x",))


def test_complex() -> None:
    refuse("argument 'ids' is complex: pass its real and imaginary parts", X, X.astype(np.complex64))


def test_empty_arrays_are_public() -> None:
    traced = trace(lambda x, y: (x, y), (X[:0], X))
    assert traced.public == (True, False)


@pytest.mark.parametrize("leaf", ["text", "float32", object(), np.array(["a"]), np.array([None])])
def test_what_is_no_array(leaf: Any) -> None:
    refuse("argument 'ids'.*(not an array or number|cannot be shared)", X, leaf)


def test_dtype_that_cannot_be_shared() -> None:
    refuse("argument 'ids' is a random key: name it in .public.", X, jax.random.key(0))
    refuse("argument 'ids' has dtype float8_e4m3fn", X, jnp.zeros(2, jnp.float8_e4m3fn))


def test_static_argument_without_hash() -> None:
    refuse(r"static argument 'ids' is a list, which has no hash", X, [1, 2], static_argnums=1)
    refuse(r"static argument 'ids' is a ndarray, which has no hash", X, X, static_argnames=("ids",))
