"""Casts and products have errors of the proven support and exact costs, with every dealer."""

import numpy as np
import pytest

from ditto_kernels.products.matmul import MATMUL, doubles, local_products, matmul
from ditto_kernels.products.matmul_public import matmul_public
from ditto_kernels.products.multiply import how_to_finish, lift_bias, multiply
from ditto_kernels.protocol.derived_cost import Spec, cost_of
from ditto_kernels.sharing.casts import convert, downcast, truncate, upcast
from ditto_kernels.values.formats import Fxp, decode, encode
from ditto_kernels.values.replicated import share

F = Fxp.parse
CASTS = [
    ("fxp32.20", "fxp32.12"),
    ("fxp32.12", "fxp16.8"),
    ("fxp16.8", "fxp32.12"),
    ("fxp32.12", "fxp64.18"),
    ("fxp64.18", "fxp32.12"),
    ("fxp64.36", "fxp64.18"),
    ("fxp8.2", "fxp16.8"),
    ("fxp32.20", "fxp16.2"),
    ("fxp16.9", "fxp32.4"),
    ("fxp32.12", "fxp32.12"),
]


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize(("source", "target"), CASTS)
def test_a_cast_keeps_the_value_and_costs_what_it_says(mpc, rng, source, target, dealer):
    source, target = F(source), F(target)
    limit = min(source.limit, target.limit) / 2 - max(source.ulp, target.ulp)
    values = np.concatenate([rng.uniform(-limit, limit, 997), [0, limit, -limit, source.ulp, -source.ulp]])
    outcome = mpc(convert, (values, source), dealer=dealer, out=target)
    exact = decode(encode(values, source), source)
    bound = 1.5 * target.ulp if target.fraction_bits < source.fraction_bits else 0.0
    assert np.max(np.abs(outcome.value - exact)) <= bound
    outcome.assert_cost(cost_of(convert, Spec(values.shape, source), out=target), dealer)


def test_the_error_of_a_truncation_has_its_proven_support_and_mean(mpc):
    """One of the two neighbours is taken, and what needs no rounding stays exact."""
    source, bits = Fxp(32, 20), 8
    values = np.arange(-30000, 30000) * 2.0**-12 + np.arange(60000) % 64 * 2.0**-18
    error = (mpc(truncate, (values, source), bits=bits).value - values) * 2**12
    assert np.max(np.abs(error)) < 1
    assert abs(np.mean(error)) < 0.01
    assert np.all(error[::64] == 0)


def test_a_free_downcast_has_its_proven_support(mpc):
    source, target = Fxp(32, 16), Fxp(16, 8)

    def protocol(party, x):
        return downcast(party, x, target)
        yield

    values = np.arange(-16000, 16000) * 2.0**-8
    error = (mpc(protocol, (values, source)).value - values) * 2**8
    assert set(np.unique(error)) <= {-1.0, 0.0, 1.0}
    assert abs(np.mean(error)) < 0.01


def test_an_upcast_of_a_positive_value_may_use_the_whole_positive_range(mpc):
    values = np.array([0.0, 1.0, 1.9999])
    outcome = mpc(upcast, (values, Fxp(16, 14)), ring=32, bias=0)
    assert np.array_equal(outcome.value, np.rint(values * 2**14) / 2**14)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4), (0,)])
def test_casts_take_any_shape(mpc, shape):
    outcome = mpc(convert, (np.full(shape, 1.5), F("fxp32.12")), out=F("fxp64.18"))
    assert outcome.value.shape == shape and np.all(outcome.value == 1.5)


def test_impossible_casts_are_explained(mpc):
    with pytest.raises(ValueError, match="cannot truncate"):
        mpc(truncate, (np.zeros(2), Fxp(16, 15)), bits=15)
    with pytest.raises(ValueError, match="use downcast"):
        mpc(upcast, (np.ones(2), Fxp(32, 12)), ring=16)


PRODUCTS = [
    ("fxp32.12", "fxp32.12", "fxp32.12"),
    ("fxp32.10", "fxp32.12", "fxp16.8"),
    ("fxp64.18", "fxp64.18", "fxp64.18"),
    ("fxp32.12", "fxp32.8", "fxp32.20"),
    ("fxp64.18", "fxp64.18", "fxp32.12"),
    ("fxp16.6", "fxp16.4", "fxp16.4"),
]


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize(("left", "right", "out"), PRODUCTS)
def test_a_product_is_right_within_its_bound(mpc, rng, left, right, out, dealer):
    left, right, out = F(left), F(right), F(out)
    x, y = rng.uniform(-3, 3, (40, 5)), rng.uniform(-1, 1, 5)
    outcome = mpc(multiply, (x, left), (y, right), dealer=dealer, out=out)
    exact = decode(encode(x, left), left) * decode(encode(y, right), right)
    assert np.max(np.abs(outcome.value - exact)) <= 1.5 * out.ulp
    outcome.assert_cost(cost_of(multiply, Spec(x.shape, left), Spec(y.shape, right), out=out), dealer)


MATMULS = [
    ((4, 7), (7, 3), (((1,), (0,)), ((), ()))),
    ((2, 5, 8), (2, 6, 8), (((2,), (2,)), ((0,), (0,)))),
    ((3, 2, 5), (4, 3), (((0,), (1,)), ((), ()))),
    ((6,), (6,), (((0,), (0,)), ((), ()))),
]


@pytest.mark.parametrize(("left", "right", "dims"), MATMULS)
@pytest.mark.parametrize("format_", ["fxp32.12", "fxp64.18"])
def test_matmul_takes_any_dot_general(mpc, rng, left, right, dims, format_):
    import jax

    fxp = F(format_)
    x, w = rng.normal(size=left), rng.normal(size=right)
    expected = np.asarray(jax.lax.dot_general(x.astype(np.float32), w.astype(np.float32), dims))
    outcome = mpc(matmul, (x, fxp), (w, fxp), out=fxp, dims=dims)
    assert outcome.value.shape == expected.shape
    assert np.max(np.abs(outcome.value - expected)) < 40 * fxp.ulp
    public = mpc(matmul_public, (x, fxp), w, out=fxp, dims=dims, weight_fraction_bits=12)
    assert np.max(np.abs(public.value - expected)) < 40 * max(fxp.ulp, 2.0**-12)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("format_", ["fxp16.0", "fxp32.0", "fxp64.0"])
def test_shares_of_products_add_up_exactly_in_the_ring(rng, format_, double):
    """The local products of all roles add up to xw, or to 2xw from half the products, over the whole ring."""
    fxp, dims = F(format_), (((1,), (0,)), ((), ()))
    low, high = np.iinfo(fxp.dtype).min, np.iinfo(fxp.dtype).max
    x, w = (rng.integers(low, high, shape, fxp.dtype, endpoint=True) for shape in ((5, 9), (9, 4)))
    parts = zip(share(x, fxp, rng.bytes), share(w, fxp, rng.bytes), range(3), strict=True)
    total = sum(local_products(rank, mine, weight, dims, double) for mine, weight, rank in parts)
    with np.errstate(over="ignore"):
        assert np.array_equal(total, (x @ w) * fxp.dtype.type(1 + double))


@pytest.mark.parametrize(
    ("ring", "bits", "out", "range_", "kind", "double"),
    [
        (32, 25, "fxp32.11", None, "truncate", False),
        (32, 25, "fxp32.11", 15, "truncate", True),  # 2 * 15 * 2^25 < 2^30
        (32, 25, "fxp32.11", 16, "truncate", False),
        (32, 25, "fxp32.11", 7.9, "lift", True),
        (32, 27, "fxp32.11", 3.9, "lift", False),  # Ring 16 lacks room for one of the dropped bits.
        (32, 25, "fxp16.9", None, "narrow", False),
        (32, 24, "fxp16.9", None, "narrow", True),
        (64, 36, "fxp64.18", None, "truncate", False),
        (64, 36, "fxp64.18", 2.0**24, "truncate", True),
        (64, 36, "fxp32.12", None, "narrow", True),
        (32, 12, "fxp32.12", 3, "plain", False),
    ],
)
def test_a_declared_range_chooses_the_cheapest_form(ring, bits, out, range_, kind, double):
    values = None if range_ is None else (-range_, range_)
    assert how_to_finish(ring, bits, F(out), values).kind == kind
    assert doubles(ring, bits, F(out), values) == double


def test_a_lift_serves_what_fits_15_bits_after_its_bias():
    assert lift_bias(F("fxp32.14"), 0.0, 1.0) == 2  # The range is that of a probability.
    assert lift_bias(F("fxp32.11"), -7.9, 7.9) is not None
    assert lift_bias(F("fxp32.11"), -8.0, 8.0) is None


@pytest.mark.parametrize("dealer", [0, 1, 2])
@pytest.mark.parametrize(
    ("out", "range_"), [("fxp32.11", 7.9), ("fxp32.11", 15.0), ("fxp16.9", 31.0), ("fxp32.9", 31.0)]
)
def test_products_with_a_declared_range_reach_all_of_it(mpc, rng, out, range_, dealer):
    left, right, out, dims = F("fxp32.11"), F("fxp32.13"), F(out), (((1,), (0,)), ((), ()))
    x, w = rng.uniform(-1, 1, (60, 16)), rng.uniform(-1, 1, (16, 20))
    scale = (range_ - 0.01) / np.max(np.abs(x @ w))
    x *= scale
    outcome = mpc(matmul, (x, left), (w, right), dealer=dealer, out=out, dims=dims, range=range_)
    exact = decode(encode(x, left), left) @ decode(encode(w, right), right)
    assert np.max(np.abs(outcome.value - exact)) <= 1.5 * out.ulp
    specs = Spec(x.shape, left), Spec(w.shape, right)
    outcome.assert_cost(MATMUL.cost(*specs, out=out, dims=dims, range=range_), dealer)


def test_a_lifted_product_of_one_sign_uses_the_whole_range(mpc, rng):
    fxp, out = F("fxp32.13"), F("fxp32.14")
    x, y = np.append(rng.uniform(0, 1, 500), [0, 1]), np.append(rng.uniform(0, 1, 500), [1, 1])
    outcome = mpc(multiply, (x, fxp), (y, fxp), out=out, values=(0.0, 1.0))
    exact = decode(encode(x, fxp), fxp) * decode(encode(y, fxp), fxp)
    assert np.max(np.abs(outcome.value - exact)) <= 1.5 * out.ulp
    spec = Spec(x.shape, fxp)
    outcome.assert_cost(cost_of(multiply, spec, spec, out=out, values=(0.0, 1.0)), 2)
