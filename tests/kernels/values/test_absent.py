"""Absent arrays have the shapes and types that numpy gives, and never a number."""

import operator

import numpy as np
import pytest

from ditto_kernels.values.absent import absent, contiguous, is_absent
from ditto_kernels.values.formats import Fxp, encode

PRESENT = np.ones((3, 4), np.int16)
ABSENT = absent((3, 4), np.dtype(np.int16))
OTHERS = [PRESENT, np.ones(4, np.int64), np.int64(3), np.ones((2, 1, 1), np.uint8), 5, 2.5, True]


def same(made, expected):
    return is_absent(made) and made.shape == expected.shape and made.dtype == expected.dtype


@pytest.mark.parametrize("other", OTHERS, ids=repr)
@pytest.mark.parametrize(
    "operation", [operator.add, operator.sub, operator.mul, operator.lt, operator.ge, operator.eq, np.minimum]
)
def test_arithmetic_passes_through(operation, other):
    assert same(operation(ABSENT, other), operation(PRESENT, other))
    assert same(operation(other, ABSENT), np.asarray(operation(other, PRESENT)))


def test_two_absent_operands_and_integers_wrap_as_arrays_do():
    word = absent((3, 4), np.dtype(np.uint16))
    real = np.ones((3, 4), np.uint16)
    assert same(word & word, real & real) and same(~word, ~real) and same(word >> 3, real >> 3)
    assert same(word << np.uint16(3), real << np.uint16(3)) and same(-ABSENT, -PRESENT)


def test_in_place_operations_make_the_target_absent():
    target = np.zeros((3, 4), np.int16)
    target += ABSENT
    assert same(target, PRESENT)
    mine = ABSENT
    mine <<= np.int16(2)
    assert same(mine, PRESENT)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.reshape(-1),
        lambda x: x.reshape((2, -1, 3)),
        lambda x: x.reshape(2, 6),
        lambda x: x.ravel(),
        lambda x: x.copy(),
        lambda x: x.astype(np.int64),
        lambda x: x.view(np.uint16),
        lambda x: x.view(np.uint8),
        lambda x: x.transpose(1, 0),
        lambda x: x.swapaxes(0, 1),
        lambda x: x.sum(axis=-1, dtype=np.int64),
        lambda x: x.sum(axis=0, keepdims=True),
        lambda x: x.any(axis=0),
        lambda x: x[1],
        lambda x: x[-1, :2],
        lambda x: x[:, None, ::2],
        lambda x: x[..., 1:],
        lambda x: x[np.array([2, 0])],
        lambda x: np.concatenate([x, x], axis=1),
        lambda x: np.concatenate([x, PRESENT]),
        lambda x: np.stack([x, PRESENT]),
        lambda x: np.stack(x),
        lambda x: np.where(PRESENT > 0, x, np.int16(3)),
        lambda x: np.where(x > 0, PRESENT, x),
        lambda x: np.take(x, np.array([[1, 2]]), axis=0),
        lambda x: np.transpose(x, (1, 0)),
        lambda x: np.moveaxis(x, 0, -1),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        lambda x: np.zeros_like(x),
        lambda x: np.full_like(x, 3, dtype=np.int64),
        lambda x: np.bitwise_xor.reduce(x, axis=0),
        lambda x: np.bitwise_xor.reduceat(x, [0, 2], axis=0),
        lambda x: np.multiply.outer(x, np.arange(3)),
        contiguous,
    ],
)
def test_layout_is_that_of_arrays(change):
    assert same(change(ABSENT), change(PRESENT))


def test_rows_and_sizes():
    assert len(ABSENT) == 3 and ABSENT.ndim == 2 and ABSENT.size == 12 and ABSENT.nbytes == 24
    assert [each.shape for each in ABSENT] == [(4,)] * 3
    ABSENT[0] = 5
    with pytest.raises(ValueError, match="broadcast"):
        ABSENT[0] = np.zeros(7)
    with pytest.raises(ValueError, match="broadcast"):
        ABSENT + np.zeros(7)
    with pytest.raises(IndexError):
        ABSENT[3]


@pytest.mark.parametrize(
    "use",
    [
        bool,
        int,
        float,
        operator.index,
        np.asarray,
        lambda x: x.item(),
        lambda x: x.tolist(),
    ],
)
def test_it_never_gives_a_number(use):
    with pytest.raises(TypeError, match="no protocol depends on data"):
        use(absent((), np.dtype(np.int32)))


def test_what_depends_on_data_or_has_no_rule_is_refused():
    with pytest.raises(TypeError, match="depends on data"):
        PRESENT[ABSENT > 0]
    with pytest.raises(TypeError, match="depends on data"):
        ABSENT[ABSENT > 0]
    for use in (np.sort, np.linalg.norm, lambda x: np.matmul(x, PRESENT.T), np.add.accumulate):
        with pytest.raises(TypeError, match="local step"):
            use(ABSENT)


def test_absent_values_are_encoded_to_absent_elements():
    made = encode(absent((2, 3), np.dtype(np.float64)), Fxp(32, 12))
    assert same(made, np.zeros((2, 3), np.int32))
