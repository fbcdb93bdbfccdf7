"""Tests calibration: the observed values, the file, the supplied ranges, and that overflows are caught."""

import json
import math
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.calibration.summary import ZERO, summary
from ditto_spu.errors import ConfigError, InputError, RangeError, RangeWarning
from tests.on_spu import paired

NARROW = {"default": "fxp16.8"}
RNG = np.random.default_rng(5)
X = RNG.standard_normal((4, 8)).astype(np.float32)
W = (RNG.standard_normal((8, 8)) / 3).astype(np.float32)


def block(x, w):
    with jax.named_scope("block"):
        y = x @ w
    with jax.named_scope("act"):
        return jax.nn.gelu(y, approximate=False)


def test_a_summary_counts_magnitudes_by_quarter_octaves():
    seen = summary(np.array([0.0, 1.0, -1.1, 8.0]))
    assert (seen.least, seen.most, seen.count) == (-1.1, 8.0, 4)
    assert seen.histogram == {ZERO: 1, 0: 2, 12: 1}
    assert seen.percentile(25) == 0.0
    assert seen.percentile(75) == 2**0.25
    assert seen.percentile(100) == seen.largest == 8.0


def test_two_summaries_join():
    whole, parts = summary(X), summary(X[:1], {"mean": (-1.0, 2.0)}) + summary(X[1:], {"mean": (0.0, 3.0)})
    assert (parts.least, parts.most, parts.count) == (whole.least, whole.most, whole.count)
    assert parts.histogram == whole.histogram
    assert parts.facts["mean"] == (-1.0, 3.0)
    assert parts.usual == min(summary(X[:1]).usual, summary(X[1:]).usual)


def test_nan_counts_as_infinite():
    assert summary(np.array([1.0, np.nan])).largest == math.inf


def test_values_are_recorded_by_path_and_op_over_all_batches():
    found = ditto.calibrate(block, [(X, W), (10 * X, W)])
    assert found.batches == 2 and found.function == "block"
    assert set(found.values) == {("x", "input"), ("w", "input"), ("block", "matmul"), ("act", "gelu")}
    product = found.at("block", "matmul")
    assert product.count == 2 * X.size
    np.testing.assert_allclose([product.least, product.most], [(10 * X @ W).min(), (10 * X @ W).max()], 1e-5)
    np.testing.assert_allclose(product.facts["second"], (W.min(), W.max()), 1e-6)
    assert found.at("block", "gelu") is None


def test_rows_of_softmax_and_layer_norm():
    mask = np.tril(np.ones((4, 8), bool))

    def f(x, mask):
        y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return jax.nn.softmax(jnp.where(mask, x, -1e9)), y

    found = ditto.calibrate(f, [(X, mask)], public=("mask",))
    np.testing.assert_allclose(found.at("", "softmax").facts["operand"], (X[mask].min(), X[mask].max()), 1e-6)


def test_secure_functions_with_held_arguments_and_named_batches():
    function = ditto.secure(block).hold(w=W)
    assert ditto.calibrate(function, [{"x": X}]).values == ditto.calibrate(block, [(X, W)]).values


@pytest.mark.parametrize(
    ("batches", "message"), [([], "no batch"), ([X], r"tuple or dictionary.*not a ndarray.*\(x,\)")]
)
def test_wrong_batches(batches, message):
    with pytest.raises(InputError, match=message):
        ditto.calibrate(block, batches)


def test_a_file_holds_all_of_it(tmp_path):
    found = ditto.calibrate(block, [(X, W)])
    found.save(tmp_path / "c.json")
    assert ditto.load_calibration(tmp_path / "c.json") == found
    rows = json.loads((tmp_path / "c.json").read_text())["values"]
    assert [row["path"] for row in rows] == ["x", "w", "block", "act"]
    assert set(rows[0]["percentiles"]) == {"50", "99", "99.9"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"version": 9}', "version 9: calibrate anew"),
        ('{"version": 2, "function": "f", "batches": 1, "values": [{"path": ""}]}', "damaged.*'histogram'"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=message):
        ditto.load_calibration(tmp_path / "c.json")
    with pytest.raises(InputError, match="cannot be read"):
        ditto.load_calibration(tmp_path / "absent.json")


# --- ranges that are supplied ---


def test_ranges_are_supplied_where_no_rule_declares_them_and_make_products_cheaper():
    found = ditto.calibrate(block, [(X, W)])
    function = ditto.secure(block, config={"default": "fxp32.11"})
    plain, supplied = (f.lower(X, W) for f in (function, function.with_calibration(found)))
    product = next(step for step in supplied.plan.steps if getattr(step, "kernel", "") == "matmul")
    declared = dict(product.attributes)["range"]
    largest = found.at("block", "matmul").largest
    assert 1.5 * largest <= declared <= 2.01 * largest
    before, after = (sum(each.cost_analysis().bytes_sent_per_party) for each in (plain, supplied))
    assert after < before
    error = np.abs(np.asarray(function.with_calibration(found)(X, W)) - block(X, W)).max()
    assert error < 0.01


def test_declared_ranges_go_before_supplied_ones():
    found = ditto.calibrate(block, [(X, W)])
    config = {"default": "fxp32.11", "rule": [{"op": "matmul", "range": 100}]}
    lowered = ditto.secure(block, config=config, calibration=found).lower(X, W)
    product = next(step for step in lowered.plan.steps if getattr(step, "kernel", "") == "matmul")
    assert dict(product.attributes)["range"] == 100.0


def test_a_supplied_range_unlocks_narrow_operands():
    found = ditto.calibrate(block, [(X, W)])
    config = {"default": "fxp32.11", "rule": [{"op": "gelu", "error": 0.02}]}
    function = ditto.secure(block, config=config)

    def operand(lowered):
        step = next(step for step in lowered.plan.steps if getattr(step, "kernel", "") == "gelu")
        return lowered.plan.vars[step.inputs[0]].fxp.ring_bits

    assert operand(function.lower(X, W)) == 32
    assert operand(function.with_calibration(found).lower(X, W)) == 16


def test_a_product_of_secrets_gets_no_range_that_its_ring_cannot_hold():
    found = ditto.calibrate(lambda x, y: x * y, [(900 * X, X)])
    ditto.secure(lambda x, y: x * y, config={"default": "fxp32.11"}, calibration=found).lower(900 * X, X)


# --- overflows that are caught ---


def scoped(fn):
    def f(*args):
        with jax.named_scope("deep"):
            return fn(*args)

    return f


P = np.abs(X) + 1
WINDOW = {"default": "fxp32.12", "rule": [{"op": ["rsqrt", "divide"], "approx": "window", "optional": True}]}
# By name: function, arguments, factor that drives values over the range, configuration, exceeded range.
OVERFLOWS = {
    "matmul result": (jnp.matmul, (X, W), (50, 1), {"default": "fxp16.10"}, "result|product|operand"),
    "matmul product": (jnp.matmul, (X, W), (300, 1), {"default": "fxp32.13"}, "product"),
    "add": (lambda x, y: x + y, (X, X), (50, 50), NARROW, "result"),
    "multiply": (lambda x, y: x * y, (X, X), (300, 300), {"default": "fxp32.16"}, "result"),
    "scale": (lambda x: 3.3 * x, (X,), (50,), NARROW, "result"),
    "gelu": (partial(jax.nn.gelu, approximate=False), (X,), (50,), {"default": "fxp16.9"}, "operand|result"),
    "gelu, quad": (
        partial(jax.nn.gelu, approximate=False),
        (X,),
        (30,),
        {"default": "fxp32.10", "rule": [{"op": "gelu", "approx": "quad"}]},
        "operand",
    ),
    "tanh": (jnp.tanh, (X,), (50,), {"default": "fxp16.9"}, "operand"),
    "sigmoid": (jax.nn.sigmoid, (X,), (60,), {"default": "fxp16.9"}, "operand"),
    "softmax": (
        jax.nn.softmax,
        (X,),
        (200,),
        {"default": "fxp32.12", "rule": [{"op": "softmax", "operand": "fxp16.6"}]},
        "operand",
    ),
    "maximum": (jnp.maximum, (X, -X), (60, 60), NARROW, "operand|difference|result"),
    "reduce_max": (lambda x: jnp.max(x, -1), (X,), (60,), NARROW, "operand|difference|result"),
    "exp": (jnp.exp, (X,), (10,), {"default": "fxp32.12"}, "exponent|result"),
    "rsqrt": (jax.lax.rsqrt, (P,), (1e11,), {"default": "fxp32.12"}, "argument"),
    "rsqrt, window": (jax.lax.rsqrt, (P,), (300,), WINDOW, "argument"),
    "sqrt": (jnp.sqrt, (P,), (1e11,), {"default": "fxp32.12"}, "argument"),
    "divide": (lambda x, y: x / y, (X, P), (1, 1e8), {"default": "fxp32.12"}, "size of the divisor"),
    "divide by little": (jnp.divide, (X, P), (1, 1e-6), {"default": "fxp32.12"}, "size of the divisor"),
    "divide, public": (lambda y: 1 / y, (P,), (1e-6,), {"default": "fxp32.12"}, "size of the divisor"),
    "divide, window": (lambda x, y: x / y, (X, P), (1, 2000), WINDOW, "divisor"),
    "divide by little, window": (lambda x, y: x / y, (X, P), (1, 0.01), WINDOW, "divisor"),
    "declared": (
        jnp.matmul,
        (X, W),
        (30, 1),
        {"default": "fxp32.11", "rule": [{"op": "matmul", "range": 8}]},
        "declared range",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERFLOWS)
def test_values_over_a_range_are_caught_and_named(name):
    fn, args, factors, config, what = OVERFLOWS[name]
    function = scoped(fn)
    pushed = tuple((factor * each).astype(np.float32) for factor, each in zip(factors, args, strict=True))
    fitting = ditto.calibrate(function, [args])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RangeWarning)
        ditto.secure(function, config=config, calibration=fitting).lower(*args)
    over = ditto.calibrate(function, [args, pushed])
    with pytest.raises(RangeError, match=r"\w+ at '(deep|x|args/\d|\w)'") as caught:
        ditto.secure(function, config=config, calibration=over).lower(*args)
    lowered = ditto.secure(function, config=config).lower(*args)
    bad = [row for row in lowered.ranges(over).rows if (row.headroom or 0) < 0 and row.path == "deep"]
    assert any(row.what in what.split("|") for row in bad), (str(caught.value), bad)


def layer_norm(x, gamma, beta):
    with jax.named_scope("deep"):
        mean = x.mean(-1, keepdims=True)
        centred = x - mean
        variance = jnp.mean(centred * centred, -1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-12) * gamma + beta


@pytest.mark.parametrize("factor", [100.0, 0.001])
def test_variances_that_layer_norm_cannot_invert_are_caught(factor):
    args = X, np.ones(8, np.float32), np.zeros(8, np.float32)
    rules = [{"op": "layer_norm", "approx": "window"}]
    function = ditto.secure(layer_norm, config={"default": "fxp32.11", "rule": rules})
    function.with_calibration(function.calibrate([args])).lower(*args)
    over = function.calibrate([args, (np.float32(factor) * X, *args[1:])])
    with pytest.raises(
        RangeError, match=r"layer_norm at 'deep' .*: variance reached .* admits 0.0004883 to 256"
    ):
        function.with_calibration(over).lower(*args)


@pytest.mark.parametrize("factor", [1e7, 1e-6])
def test_rows_that_no_form_of_layer_norm_serves_are_caught(factor):
    args = X, np.ones(8, np.float32), np.zeros(8, np.float32)
    function = ditto.secure(layer_norm, config={"default": "fxp32.11"})
    over = function.calibrate([args, (np.float32(factor) * X, *args[1:])])
    with pytest.raises(RangeError, match=r"layer_norm at 'deep' .*: variance reached|input at|operand"):
        function.with_calibration(over).lower(*args)


def test_an_argument_over_its_format_is_caught():
    found = ditto.calibrate(lambda x: x + x, [(200 * X,)])
    with pytest.raises(RangeError, match=r"input at 'x'|add at ''"):
        ditto.secure(lambda x: x + x, config=NARROW, calibration=found).lower(X)


def test_a_thin_margin_warns_with_the_path():
    function = scoped(lambda x, y: x + y)
    largest = np.abs(2 * X).max()
    args = ((X * (59 / largest)).astype(np.float32),) * 2
    found = ditto.calibrate(function, [args])
    with pytest.warns(RangeWarning, match=r"add at 'deep' \(result, 0\.1\d bits\)"):
        ditto.secure(function, config=NARROW, calibration=found).lower(*args)


def test_the_table_shows_headroom_only_with_a_calibration():
    lowered = ditto.secure(block, config={"default": "fxp32.11"}).lower(X, W)
    assert all(row.headroom is None for row in lowered.ranges().rows)
    shown = str(lowered.ranges(ditto.calibrate(block, [(X, W)])))
    row = next(line for line in shown.splitlines() if "matmul" in line and "product" in line)
    assert row.split()[0] == "block" and "fxp32.22" in row and "±256" in row


# --- p_error ---


def test_plans_of_kernels_never_fail():
    function = ditto.secure(block, p_error=0.0)
    assert function.lower(X, W).cost_analysis().p_error == 0.0
    assert function.run(X, W).report.p_error == 0.0


def test_spu_steps_have_an_unknown_probability_and_are_refused_under_a_limit():
    function = scoped(paired)
    assert ditto.secure(function).lower(X).cost_analysis().p_error is None
    with pytest.raises(ConfigError, match=r"step \d+ at 'deep' runs on SPU.*p_error = 1e-06"):
        ditto.secure(function, p_error=1e-6).lower(X)
    with pytest.raises(ConfigError, match="no probability"):
        ditto.secure(function, p_error=2.0).lower(X)


def test_a_calibration_becomes_a_configuration(tmp_path: Path) -> None:
    x = np.array([[1.0, -2.0]], np.float32)
    calibrated = ditto.secure(lambda x: x @ x.T, calibration=ditto.calibrate(lambda x: x @ x.T, [(x,)]))
    file = tmp_path / "mine.toml"
    file.write_text(calibrated.lower(x).as_text("config"))
    plain = ditto.secure(lambda x: x @ x.T, config=file)
    assert str(plain.lower(x).plan).replace("mine", "auto") == str(calibrated.lower(x).plan)
    assert plain(x) == pytest.approx(5, abs=1e-3)


def test_a_calibration_of_another_function_is_refused() -> None:
    x = np.array([1.0, 2.0], np.float32)
    other = ditto.calibrate(lambda x: jax.nn.softmax(x), [(x,)])
    with pytest.raises(InputError, match="knows no operation of this program"):
        ditto.secure(lambda x: x @ x, calibration=other)(x)
