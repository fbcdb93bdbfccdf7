"""Extremes are those of numpy, for every type of number, also with NaN, infinity and elements left out."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ditto_spu.ops.observed import extremes, number

TYPES = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)


def found(value: Any, taken: Any = None) -> tuple[float, float]:
    with jax.experimental.enable_x64():
        low, high = jax.jit(extremes)(value, taken)
    return number(np.asarray(low)), number(np.asarray(high))


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type(dtype: Any) -> None:
    for values in ([1, 0, 3], [5], [[-1, -2], [0, -7]]):
        value = np.array(values).astype(dtype)
        assert found(value) == (value.min(), value.max())
    assert found(np.zeros((0, 3), dtype)) == (0, 0)


@settings(max_examples=25, deadline=None)
@given(arrays.arrays(np.float32, 6, elements=st.floats(width=32, allow_nan=False, allow_subnormal=False)))
def test_any_floats(value: np.ndarray) -> None:
    assert found(value) == (value.min(), value.max())


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
@pytest.mark.parametrize("place", range(3))
def test_nan_is_never_lost(nan: float, place: int) -> None:
    value = np.arange(3.0, dtype=np.float32)
    value[place] = nan
    assert np.isnan(found(value)).any()


def test_elements_that_are_left_out() -> None:
    value = np.array([1.0, np.nan, -3.0, np.inf], np.float32)
    assert found(value, np.array([True, False, True, False])) == (-3.0, 1.0)
    assert found(value, np.zeros(4, bool)) == (np.inf, -np.inf)
