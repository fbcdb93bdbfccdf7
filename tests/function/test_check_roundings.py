"""Where floats lose values beside a large number and shares do not, a call is refused."""

from typing import Any

import jax
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.errors import RangeError

F = np.float32
S = np.array([[[3.0, 1.0, -2.0]], [[0.5, 0.25, 1.0]]], F)
PADDED = np.array([[[0, 0, 0]], [[1, 1, 0]]], np.int32)  # a text of no word, and one of two


def attention(s: Any, m: Any) -> Any:
    return jax.nn.softmax(s + (1.0 - m) * -1e10)


def test_a_secret_row_without_words_is_refused_for_a_small_mask_too() -> None:
    def secret(s: Any, m: Any) -> Any:
        return jax.nn.softmax(s + (1.0 - m) * -1e4)

    secure = ditto.secure(secret)
    with pytest.raises(RangeError, match=r"output 0: .*10000 \("):
        secure(S, PADDED.astype(F))
    whole = np.ones_like(PADDED).astype(F)
    np.testing.assert_allclose(secure(S, whole), secret(S, whole), atol=1e-3)


def test_a_row_without_words_is_refused_only_if_floats_keep_some_of_its_scores() -> None:
    secure = ditto.secure(attention, public=("m",))
    np.testing.assert_allclose(secure(S, PADDED), attention(S, PADDED), atol=1e-3)
    with pytest.raises(RangeError, match=r"output 0: .*1e\+10 \(.*test_check_roundings\.py:\d+"):
        secure(S * F(1000), PADDED)
    whole = np.ones_like(PADDED)
    np.testing.assert_allclose(secure(S * F(1000), whole), attention(S * F(1000), whole), atol=1e-3)
