"""Programs that Python cannot trace are refused with the user's line and the remedy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import ConfigWarning, InputError, UnsupportedOpError

X = np.linspace(-1, 1, 6, dtype=np.float32)


def branch(x: Any) -> Any:
    return x if x.sum() > 0 else -x


def loop(x: Any) -> Any:
    while x[0] < 3:
        x = x + 1
    return x


def count(x: Any) -> Any:
    return sum(x for _ in range(x.astype(int)[0]))


@pytest.mark.parametrize(
    ("fn", "remedy"),
    [
        (branch, r"jnp\.where or lax\.cond"),
        (loop, r"lax\.fori_loop"),
        (count, r"lax\.fori_loop"),
        (lambda x: x * int(x.sum()), "astype"),
        (lambda x: x * bool(x.sum() > 1), r"jnp\.where"),
        (lambda x: x * float(x.sum()), "astype"),
        (lambda x: x[x > 0], r"jnp\.where"),
        (lambda x: jnp.nonzero(x)[0], "size"),
        (lambda x: jnp.unique(x), "size"),
        (lambda x: np.asarray(x) * 2, r"jax\.numpy"),
        (lambda x: jnp.zeros(x.astype(int)[0]), "static_argnames"),
        (lambda x: [1, 2, 3][x.astype(int)[0]] * x, r"jnp\.take"),
    ],
)
def test_values_that_python_needs(fn: Callable[..., Any], remedy: str) -> None:
    with pytest.raises(UnsupportedOpError, match=rf"test_program_errors\.py:\d+: .*{remedy}"):
        ditto.secure(fn)(X)


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (lambda x: x @ jnp.zeros((2, 2)), "dot_general.* x: float32"),
        (lambda x: x.reshape(5), "cannot reshape"),
        (lambda x: x / (1 // 0), "ZeroDivisionError"),
        (lambda x: {"a": x}["b"], "KeyError"),
        (lambda x: x.width, "AttributeError"),
        (lambda x: x + None, "unsupported operand"),
        (lambda x: x.__setitem__(0, 1), r"\.at\["),
        (lambda x, y: x, "missing 1 required positional argument: 'y'"),
    ],
)
def test_errors_of_the_function_itself_name_its_line(fn: Callable[..., Any], text: str) -> None:
    with pytest.raises(InputError, match=rf"test_program_errors\.py:\d+: .*{text}") as caught:
        ditto.secure(fn)(X)
    assert caught.value.__cause__ is not None


def test_what_is_no_function() -> None:
    with pytest.raises(InputError, match="'ditto', which is no function"):
        ditto.secure("ditto")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("fn", "remedy"),
    [
        (lambda x: x[: x.astype(int)[0]], r"lax\.dynamic_slice"),
        (lambda x: jnp.where(x > 0 and x < 1, x, 0), "combine with &"),
        (lambda x: {"name": "abc", "value": x}, "return arrays alone"),
    ],
)
def test_what_jax_says_in_other_words(fn: Callable[..., Any], remedy: str) -> None:
    with pytest.raises(UnsupportedOpError, match=remedy):
        ditto.secure(fn)(X)


def test_a_call_inside_of_a_transformation() -> None:
    secure = ditto.secure(lambda x: x * 2)
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(InputError, match="call the secure function outside"):
            transform(lambda x: secure(x))(X)


def test_an_array_of_objects() -> None:
    with pytest.raises(InputError, match="an array of object elements"):
        ditto.secure(lambda x: x)(np.array([None, object()]))


def test_a_format_that_a_kernel_does_not_take_is_named_with_the_line() -> None:
    config = {"default": "fxp32.12", "rule": [{"op": "tanh", "operand": "fxp8.7"}]}
    with pytest.raises(UnsupportedOpError, match=r"test_program_errors\.py:\d+\): tanh: fxp8\.7: the series"):
        ditto.secure(lambda x: jnp.tanh(x * 2), config=config)(X)


@pytest.mark.parametrize(
    ("path", "warned"),
    [("encoder/layr/0", True), (".*/layr/0", True), ("decoder/0/b", False), ("encoder", False)],
)
def test_an_optional_rule_with_a_misspelt_path_is_named(path: str, warned: bool) -> None:
    def fn(x: Any) -> Any:
        with jax.named_scope("encoder/layer/0"):
            return jnp.tanh(x)

    rule = {"op": "tanh", "path": path, "operand": "fxp16.9", "optional": True}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ditto.secure(fn, config={"default": "fxp32.12", "rule": [rule]}).lower(X)
    assert [each.category for each in seen] == [ConfigWarning] * warned
    assert not warned or "encoder/layer/0" in str(seen[0].message)
