"""Static arguments mean the same by place and by name, and each value has a program of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ditto_spu import calibrate, secure
from ditto_spu.errors import InputError

X = np.float32([1, 2, 3, 4, 5])


def scaled(k: float, x: Any, y: Any) -> Any:
    return x * k - y


def first(x: Any, n: int) -> Any:
    return x[:n].sum()


@pytest.mark.parametrize("static", [{"static_argnames": "k"}, {"static_argnums": 0}])
@pytest.mark.parametrize("options", [{}, {"check": False}, {"public": ("y",)}, {"owner": {"x": "alice"}}])
def test_a_static_argument_before_arrays(static: dict[str, Any], options: dict[str, Any]) -> None:
    function = secure(scaled, **static, **options)
    for k in (3, 2, -1.5):
        want = scaled(k, X, X[::-1])
        assert function(k, X, X[::-1]) == pytest.approx(want, abs=1e-3)
        assert function(x=X, k=k, y=X[::-1]) == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize(
    "static", [{"static_argnames": ("n",)}, {"static_argnums": 1}, {"static_argnums": -1}]
)
def test_each_value_has_its_program(static: dict[str, Any]) -> None:
    function = secure(first, **static)
    for n in (2, 4, 5):
        assert float(function(X, n)) == pytest.approx(float(X[:n].sum()), abs=1e-3)
    if static != {"static_argnums": -1}:  # as in jax.jit, it counts from the end of what is given by place
        for n in (3, 1):
            assert float(function(X, n=n)) == pytest.approx(float(X[:n].sum()), abs=1e-3)


def test_values_that_are_equal_and_of_other_types() -> None:
    function = secure(lambda x, flag: x + 1 if flag is True else x - 1, static_argnames="flag")
    assert float(function(2.0, 1)) == pytest.approx(1.0, abs=1e-3)
    assert float(function(2.0, True)) == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize("given", [lambda: (3, X, X), lambda: {"k": 3, "x": X, "y": X}])
def test_calibrations_read_the_same_arrays(given: Callable[[], Any]) -> None:
    calibration = calibrate(secure(scaled, static_argnames="k"), [given()])
    function = secure(scaled, static_argnames="k", calibration=calibration)
    assert function(3, X, X) == pytest.approx(2 * X, abs=0.1)


def test_an_unknown_name_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="static_argnames has 'm': choose one of x, n"):
        secure(first, static_argnames="m")
