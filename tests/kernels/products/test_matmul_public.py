"""Products with public tensors are exact in the ring at every extreme, also added to a secret one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditto_kernels.machine.backends import backend
from ditto_kernels.machine.numpy_xla import NumpyXla
from ditto_kernels.products import exact_float_matmul
from ditto_kernels.products.exact_float_matmul import factor, times
from ditto_kernels.products.matmul_public import MATMUL_ADAPTED, matmul_adapted, matmul_public
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, signed
from ditto_kernels.values.replicated import Known

DOT = (((1,), (0,)), ((), ()))
F = Fxp.parse


def exact(left, right, dims, ring):
    """Return the dot_general of integers of any size, without batches, read in Z_2^ring."""
    product = np.tensordot(left.astype(object), right.astype(object), axes=dims[0])
    return np.asarray((product + 2 ** (ring - 1)) % 2**ring - 2 ** (ring - 1)).astype(signed(ring))


def column(total, terms, rng):
    """Return integers with random signs whose magnitudes add up to `total`."""
    sizes = np.full(terms, total // terms, np.int64)
    sizes[0] += total - sizes.sum()
    return np.where(rng.random(terms) < 0.5, -sizes, sizes)


@pytest.mark.parametrize(
    ("ring", "total", "limbs", "real"),
    [
        (16, 2**38, 1, True),
        (32, 2**22, 1, True),
        (32, 2**22 + 1, 2, False),  # Two float64 products cost more than one of integers.
        (64, 2**22, 2, True),
        (64, 2**43, 6, True),
        (64, 2**44, 7, False),
        (64, 2**60, 64, False),
    ],
)
def test_products_are_exact_up_to_the_bound_and_beyond(rng, ring, total, limbs, real, monkeypatch):
    monkeypatch.setattr(exact_float_matmul, "backend", NumpyXla)
    dtype, terms = signed(ring), 300
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    weights = np.stack([column(total, terms, rng), column(total // 3, terms, rng)], axis=1)
    if total // terms > high:
        weights = weights % 2**15
    weights = weights.astype(dtype)
    worst = np.where(weights[:, 0] > 0, low, -high)  # Every term has the same sign, so the sum is largest.
    x = np.stack([worst, -(worst + 1), np.full(terms, low), rng.integers(low, high, terms)]).astype(dtype)
    made = factor(weights, ring, DOT)
    if total // terms <= high:
        assert (made.limbs, made.real is not None) == (limbs, real)
    assert np.array_equal(times(x, made), exact(x, weights, DOT, ring))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_products_are_exact_in_any_layout(data):
    made = data.draw(st.sampled_from([NumpyXla, backend]))
    ring = data.draw(st.sampled_from([8, 16, 32, 64]))
    bits = data.draw(st.integers(1, ring - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = rng.integers(1, 7, 3)
    info = np.iinfo(signed(ring))
    x = rng.integers(info.min, info.max, (sizes[0], sizes[1]), signed(ring), endpoint=True)
    w = rng.integers(-(2**bits), 2**bits, (sizes[1], sizes[2])).astype(signed(ring))
    across_x, across_w = data.draw(st.booleans()), data.draw(st.booleans())
    left, right = x.T if across_x else x, w.T if across_w else w
    dims = (((0 if across_x else 1,), (1 if across_w else 0,)), ((), ()))
    expected = exact(x, w, DOT, ring)
    turned = ((dims[0][1], dims[0][0]), ((), ()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_float_matmul, "backend", made)
        assert np.array_equal(times(left, factor(right, ring, dims)), expected)
        assert np.array_equal(times(left, factor(right, ring, turned, left=True)), expected.T)


def test_products_in_batches_are_exact(rng):
    dims = (((2,), (1,)), ((0,), (0,)))
    x = rng.integers(-(2**31), 2**31, (3, 4, 5)).astype(np.int32)
    w = rng.integers(-(2**12), 2**12, (3, 5, 2)).astype(np.int32)
    expected = np.matmul(x.astype(np.int64), w.astype(np.int64)).astype(np.int32)
    assert np.array_equal(times(x, factor(w, 32, dims)), expected)


def test_a_public_operand_is_prepared_once_for_each_use(mpc, rng):
    x, w = rng.normal(size=(4, 6)), Known(rng.normal(size=(6, 3)))
    fxp = F("fxp32.12")
    options = {"out": fxp, "weight_fraction_bits": 12}
    plain = [mpc(matmul_public, (x, fxp), w, dims=DOT, **options).value for _ in range(2)]
    turned = (((0,), (1,)), ((), ()))
    left = mpc(matmul_public, (x, fxp), w, dims=turned, public_left=True, **options).value
    assert len(w.prepared) == 2
    for value in (*plain, left.T):
        assert np.max(np.abs(value - x @ w.value)) < 6 * fxp.ulp


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("formats", "out", "range_"),
    [
        (("fxp32.11",) * 3, "fxp32.11", None),
        (("fxp32.11",) * 3, "fxp32.10", 12.0),
        (("fxp32.11", "fxp32.9", "fxp32.10"), "fxp16.8", None),  # The public product has more bits.
        (("fxp32.9", "fxp32.12", "fxp32.12"), "fxp32.8", None),  # The secret product has more bits.
        (("fxp64.18",) * 3, "fxp64.18", None),
    ],
)
def test_a_secret_product_is_added_to_a_public_one(mpc, rng, formats, out, range_, left, masked):
    x, t, b = (F(each) for each in formats)
    values = [rng.uniform(-1, 1, shape) for shape in ((7, 9), (9, 5), (7, 2), (2, 5))]
    expected = values[0] @ values[1] + values[2] @ values[3]
    dims = DOT
    if left:
        dims, expected = (((1,), (1,)), ((), ())), expected.T
        values[1], values[3] = values[1].T, values[3].T
    attributes = {
        "out": F(out),
        "dims": dims,
        "adapter_dims": dims,
        "weight_fraction_bits": 12,
        "public_left": left,
        "range": range_,
    }
    operands = [(values[0], x), values[1], (values[2], t), (values[3], b)]
    outcome = mpc(matmul_adapted, *operands, masked=masked, dealer=0, **attributes)
    assert outcome.value.shape == expected.shape
    assert np.max(np.abs(outcome.value - expected)) < 1.5 * F(out).ulp + 16 * 2.0**-9
    specs = [
        Spec(each[0].shape, each[1]) if isinstance(each, tuple) else Spec(each.shape) for each in operands
    ]
    outcome.assert_cost(MATMUL_ADAPTED.cost(*specs, masked=masked, **attributes), 0)
