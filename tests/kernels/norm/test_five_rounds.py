"""Few rows are normalised: lifts and windows by themselves, then both norms over their whole range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ditto_kernels.norm.layer_norm import LAYER_NORM
from ditto_kernels.norm.norm_plan import VARIANCE, plan_norm
from ditto_kernels.norm.rms_norm import MEAN_SQUARE, RMS_NORM
from ditto_kernels.norm.root_by_tables import (
    choose,
    deal_choice,
    deal_tables,
    evaluate,
    fit_windows,
    window_shares,
)
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTH
from ditto_kernels.protocol.tuning import FIVE_ROUND_ROWS
from ditto_kernels.sharing.lift_opened import Lift, dealers_part, mask_part, open_part
from ditto_kernels.values.formats import Fxp, signed

F = Fxp.parse
WIDE = np.dtype(np.int64)


def drawn(rng, shape, dtype):
    """Draw numbers that are uniform over the whole type."""
    dtype = np.dtype(dtype)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def split(rng, value):
    """Split a value into shares of A and B."""
    first = drawn(rng, value.shape, value.dtype)
    return first, value - first


@pytest.mark.parametrize("lift", [Lift(32), Lift(64), Lift(64, 1), Lift(64, 15), Lift(64, 25)], ids=str)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_lift_is_exact_but_for_the_rounding(lift, seed):
    rng, limit = np.random.default_rng(seed), 1 << (lift.ring - 2)
    x = np.concatenate(
        [rng.integers(-limit + 2**25, limit - 2**25, 200), [0, 1, -1, limit - 2**25, -limit + 2**25]]
    )
    first, second = (drawn(rng, x.shape, signed(lift.ring)) for _ in range(2))
    c = x.astype(signed(lift.ring)) + signed(lift.ring).type(lift.bias) + first + second
    inner, carry, top = dealers_part(first, second, lift)
    carries, tops = split(rng, carry), split(rng, top)
    masks = [
        mask_part(mask, lift, carries[place] + tops[place] * (c >= 0))
        for place, mask in enumerate((first, second))
    ]
    error = open_part(c, lift) + masks[0] + masks[1] - (x >> lift.dropped)
    assert error.min() >= (-1 if lift.dropped else 0) and error.max() <= (2 if lift.dropped else 0)
    counted = lift.wrapped(top * (c >= 0)) if lift.wraps else 0
    assert np.array_equal(masks[0] + masks[1], counted - inner)  # Products are dealt of these.


def roots(rng, how, number):
    """Return the roots that A and B compute from shares of `number`, which has one row per entry.

    The masks and shares of three parties are drawn in one process.
    """
    shape, patterns = (len(number), how.count), (len(number),)
    shares = split(rng, number.view(WIDE)[:, None])
    index = sum(window_shares(how, share, place == 0) for place, share in enumerate(shares))
    mask = drawn(rng, shape, np.int32)
    tables = [split(rng, np.ascontiguousarray(each)) for each in deal_tables(how, mask)]
    found = [evaluate(how, index + mask, tables[0][place], tables[1][place]) for place in range(2)]
    first, second = drawn(rng, shape, WIDE), drawn(rng, shape, WIDE)
    rho = drawn(rng, patterns, np.int8)
    choice = split(rng, deal_choice(how, rho, first, second))
    values = found[0][0] + found[1][0] + first + second + np.int64(how.lift.bias)
    pattern = found[0][1] + found[1][1] + rho
    root = sum(choose(how, pattern, values, share) for share in choice)
    return root[:, 0] * 2.0**-how.root_bits


EDGES = np.array([1, 2, *range(13, 19), 31, 128, *range(238, 243), 253, 254, 255])  # edges of the index
RANGES = [
    (768.0**2 * 4.0**14, *VARIANCE, 20),
    (768.0 * 4.0**14, *MEAN_SQUARE, 23),
    (96.0**2 * 4.0**8, 2.0**-6, 2.0**3, 18),  # few bits below the index
    (64.0 * 4.0**18, 0.9, 1.1, 16),  # a single window
    (1.0, 2.0**5, 2.0**30, 31),
    (2.0**55.9, 2.0**-10.5, 2.0**8, 20),  # up to the end of the ring
]


@pytest.mark.parametrize(("scale", "lo", "hi", "bits"), RANGES)
def test_roots_at_the_edges_of_windows_and_between(scale, lo, hi, bits):
    how, rng = fit_windows(scale, lo, hi, bits), np.random.default_rng(0)
    steps = 2.0 ** (how.low + how.shift + 4 * np.arange(how.count))[:, None] * EDGES
    edges = (steps[..., None] + np.array([-2, -1, 0, 1, 2])).reshape(-1)
    spread = np.exp(rng.uniform(np.log(lo * scale), np.log(hi * scale), 500))
    number = np.concatenate([edges, spread, [lo * scale, hi * scale]])
    number = np.unique(np.clip(number, np.ceil(lo * scale), np.floor(hi * scale)).astype(np.uint64))
    exact = (number / scale) ** -0.5
    for _ in range(2):
        error = np.abs(roots(rng, how, number) - exact)
        assert np.all(error <= how.error * exact + 1.5 * 2.0**-bits)


@pytest.mark.parametrize(("scale", "lo", "hi", "bits"), RANGES)
def test_a_root_below_the_range_is_bounded(scale, lo, hi, bits):
    how, rng = fit_windows(scale, lo, hi, bits), np.random.default_rng(0)
    number = np.unique(np.concatenate([np.arange(100), np.linspace(0, lo * scale, 300)]).astype(np.uint64))
    found = roots(rng, how, number)
    assert np.all(found > 0) and np.max(found) <= how.unit**-0.5 + 1.5 * 2.0**-bits
    near = number >= 4 * how.unit * scale
    assert np.all(np.abs(found * (number / scale) ** 0.5 - 1)[near] < 0.002 + 1 / number[near])


def test_ranges_without_room_take_another_way():
    assert fit_windows(1.0, 2.0, 100.0, 20) is None  # The number has too few bits.
    assert fit_windows(2.0**56, 1.0, 2.0**8, 20) is None  # The number has too many bits.
    assert fit_windows(2.0**20, 2.0**-15, 2.0**40, 20) is None  # There would be too many windows.


def _on(values, fxp):
    return np.rint(values / fxp.ulp) * fxp.ulp


# Each case has the formats of x, of weights (None if they are public) and of the result, then rows, length,
# attributes and rounds.
CASES = [
    ("fxp32.14", "fxp64.14", "fxp32.11", 1, 768, {"inner": F("fxp64.14"), "eps": 1e-5}, 5),
    ("fxp32.11", "fxp64.14", "fxp32.11", 4, 768, {}, 5),
    ("fxp32.12", None, "fxp32.12", 2, 96, {}, 5),
    ("fxp32.12", "fxp32.12", "fxp32.12", 3, 64, {}, 7),
    ("fxp32.12", "fxp64.14", "fxp16.7", 1, 33, {}, 5),
    ("fxp64.18", "fxp64.18", "fxp64.18", 2, 768, {}, 6),
    ("fxp64.18", None, "fxp32.12", 2, 64, {}, 5),
    ("fxp32.16", "fxp64.24", "fxp64.20", 1, 100, {"variance": (2.0**-4, 2.0**4)}, 8),
    ("fxp32.14", "fxp64.14", "fxp32.11", 1, 64, {"variance": (0.9, 1.1)}, 5),  # one window
    ("fxp32.10", "fxp64.14", "fxp32.10", 3, 2, {"variance": (2.0**-4, 2.0**4)}, 5),
]


@pytest.mark.parametrize(("source", "weights", "target", "rows", "length", "attributes", "rounds"), CASES)
@pytest.mark.parametrize("kernel", [LAYER_NORM, RMS_NORM], ids=lambda each: each.name)
def test_norms_at_the_edges_of_every_window(
    mpc, kernel, source, weights, target, rows, length, attributes, rounds
):
    """Rows have every variance in turn, an octave apart, from one end of the range to the other."""
    rng, centred = np.random.default_rng(length), kernel is LAYER_NORM
    fxp, weight, out = F(source), F(weights) if weights else None, F(target)
    lo, hi = attributes.get("variance", VARIANCE if centred else MEAN_SQUARE)
    squares = np.exp2(np.arange(np.log2(lo) + 0.05, np.log2(hi), 1.0))
    squares = np.concatenate([squares, [hi * 0.999], np.full(-(len(squares) + 1) % rows, 1.0)]).reshape(
        -1, rows
    )
    for dealer, chosen in enumerate(squares):
        x = rng.normal(size=(rows, length))
        x -= x.mean(-1, keepdims=True) * centred
        x *= np.sqrt(chosen[:, None] / np.mean(x * x, axis=-1, keepdims=True))
        x = _on(x + 20 * centred, fxp)
        vectors = [rng.uniform(-2, 2, length) for _ in range(1 + centred)]
        vectors = [_on(each, weight) if weight else each for each in vectors]
        shared = [(each, weight) if weight else each for each in vectors]
        specs = [Spec(x.shape, fxp), *(Spec((length,), weight) for _ in vectors)]
        outcome = mpc(kernel.run, (x, fxp), *shared, out=out, dealer=dealer % 3, **attributes)
        exact = kernel.reference(x, *vectors, eps=attributes.get("eps", 1e-12))
        error = np.max(np.abs(outcome.value - exact))
        assert error <= kernel.error(*specs, out=out, **attributes)
        assert error < 1.5 * out.ulp + 2e-3
        cost = kernel.cost(*specs, out=out, **attributes)
        outcome.assert_cost(cost, dealer % 3)
        assert cost.rounds == rounds


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    mean=st.floats(-1000, 1000),
    log=st.floats(-10.9, 7.9),
    outlier=st.booleans(),
    secret=st.booleans(),
)
def test_any_mean_any_variance_and_outliers(mpc, seed, mean, log, outlier, secret):
    rng, fxp, weight, out = np.random.default_rng(seed), F("fxp32.14"), F("fxp64.14"), F("fxp32.11")
    x = np.zeros((1, 200)) if outlier else rng.normal(size=(1, 200))
    x[0, 7] += 3
    x = _on(mean + (x - x.mean()) / x.std() * 2.0 ** (log / 2), fxp)
    vectors = [_on(rng.uniform(-4, 4, 200), weight) for _ in range(2)]
    shared = [(each, weight) if secret else each for each in vectors]
    outcome = mpc(LAYER_NORM.run, (x, fxp), *shared, out=out)
    assert np.max(np.abs(outcome.value - LAYER_NORM.reference(x, *vectors))) < 0.004


def test_the_largest_elements_and_the_largest_result(mpc):
    fxp, out = F("fxp32.12"), F("fxp32.12")
    x = np.full((2, 96), 2.0**17 - 40)  # This is just within a quarter of the ring.
    x[0, ::2] += 9.0
    x[1] = -x[0]
    gamma, beta = np.full(96, 500.0), np.full(96, 7.0)
    exact = LAYER_NORM.reference(x, gamma, beta)
    for weights in ((gamma, beta), ((gamma, F("fxp64.14")), (beta, F("fxp64.14")))):
        outcome = mpc(LAYER_NORM.run, (x, fxp), *weights, out=out)
        assert np.max(np.abs(outcome.value - exact)) < 500 * 1e-4


@pytest.mark.parametrize("value", [0.0, 2.0**-16, 2.0**-9])
def test_variances_below_the_range_give_bounded_results(mpc, value):
    fxp = F("fxp32.14")
    x = np.zeros((1, 96))
    x[0, ::2] = value
    for kernel, weights in ((LAYER_NORM, (np.ones(96), np.zeros(96))), (RMS_NORM, (np.ones(96),))):
        result = mpc(kernel.run, (x, fxp), *weights, out=F("fxp32.11")).value
        assert np.max(np.abs(result)) < 1.6
        assert np.all(np.abs(result) <= np.abs(kernel.reference(x, *weights, eps=1e-9)) * 1.2 + 0.01)


def test_what_takes_the_way_of_many_rows():
    weight, out = F("fxp64.14"), F("fxp32.11")

    def few(shape, source, worth=ROUND_WORTH, **attributes):
        return plan_norm(shape, F(source), weight, out, **attributes).few_of(worth)

    assert few((FIVE_ROUND_ROWS, 768), "fxp32.14") and few((2, FIVE_ROUND_ROWS // 2, 768), "fxp32.14")
    assert few((FIVE_ROUND_ROWS + 1, 768), "fxp32.14") is None
    assert few((4 * FIVE_ROUND_ROWS, 768), "fxp32.14", 4 * ROUND_WORTH)
    assert few((1, 64), "fxp16.7", variance=(2.0**-4, 2.0**8)) is None  # Wraps of ring 16 would count twice.
    assert few((1, 1 << 14), "fxp32.14") is None  # Sums of squares have no room.


def test_dealt_tables_do_not_grow_with_the_row(mpc):
    weight, out = F("fxp64.14"), F("fxp32.11")

    def dealt(length):
        vector = Spec((length,), weight)
        cost = LAYER_NORM.cost(Spec((1, length), F("fxp32.14")), vector, vector, out=out)
        return sum(cost.offline)

    tables = dealt(256) - (dealt(512) - dealt(256))
    assert 32_000 < tables < 34_000
