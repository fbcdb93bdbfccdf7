"""Formats are parsed, printed and used to encode, and their error messages say what is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ditto_kernels.values.formats import RINGS, Fxp, container_bits, decode, encode

formats = st.sampled_from(RINGS).flatmap(lambda ring: st.builds(Fxp, st.just(ring), st.integers(0, ring - 1)))


@given(formats)
def test_a_format_prints_as_it_is_read(fxp):
    assert Fxp.parse(str(fxp)) == fxp


@given(formats, st.floats(-0.999, 0.999))
def test_encoding_rounds_to_the_nearest_value(fxp, part):
    value = part * min(fxp.limit - fxp.ulp, 2.0**52)
    error = abs(float(decode(encode(value, fxp), fxp)) - value)
    assert error <= fxp.ulp / 2 + abs(value) * 2**-52


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3)])
def test_shapes_are_kept(shape):
    assert encode(np.zeros(shape), Fxp(32, 12)).shape == shape


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fxp32", "is not a format"),
        ("fxp24.8", "choose one of 8, 16, 32, 64"),
        ("fxp16.16", "choose 0 to 15"),
    ],
)
def test_a_bad_format_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        Fxp.parse(text)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(ValueError, match="NaN or infinity"):
        encode(value, Fxp(32, 12))


def test_a_value_outside_the_range_is_refused_with_the_limit():
    with pytest.raises(ValueError, match="below 128"):
        encode(128.0, Fxp(16, 8))
    assert encode(-128.0, Fxp(16, 8)) == -(2**15)


def test_the_container_is_the_smallest_ring():
    assert [container_bits(bits) for bits in (1, 8, 9, 16, 17, 33)] == [8, 8, 16, 16, 32, 64]
