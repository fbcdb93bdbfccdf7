"""What was observed of one operation is applied to that operation alone, in calls of any shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.calibration.identity import identities
from ditto_spu.calibration.known import known
from ditto_spu.errors import ConfigError, InputError, RangeWarning
from ditto_spu.passes.pipeline import advance, begin

RNG = np.random.default_rng(3)


def rows(count, size=1.0):
    return (RNG.standard_normal((count, 6)) * size).astype(np.float32)


def two_sizes(x):
    centred = (x - x.mean(0)) * 0.003
    return jnp.tanh(centred * x) + centred * 700.0


def shifted(x):
    return two_sizes(x + 0.5)


def linear(fn, *args):
    return advance(begin(ditto.secure(fn).traced_batch(args)[0]), "linearise")


def seen(calibration, fn, *args):
    """Return the observed operations of a program, and the ops of those that are unknown."""
    found = known(calibration, linear(fn, *args)).operations
    names = identities(linear(fn, *args)).operations
    return found, [each.op for each, one in zip(names, found, strict=True) if each and not one]


def test_each_operation_of_a_plain_function_has_its_own_values():
    x = rows(4)
    calibration = ditto.calibrate(lambda x: (x * 100.7) * (x * 0.0123), [(x,)])
    products = [each for each in calibration.observations if each.op == "multiply"]
    assert [str(each.nth) for each in products] == ["1/3", "2/3", "3/3"]
    largest = np.abs(x).max()
    np.testing.assert_allclose(
        sorted(each.seen.largest for each in products[:2]), [largest * 0.0123, largest * 100.7], 1e-4
    )
    assert calibration.at("", "multiply").largest == max(each.seen.largest for each in products)


def test_a_calibration_serves_calls_of_other_shapes():
    calibration = ditto.calibrate(two_sizes, [(rows(4),)])
    found, unknown = seen(calibration, two_sizes, rows(9))
    assert unknown == []
    assert found == seen(calibration, two_sizes, rows(4))[0]
    both = ditto.calibrate(two_sizes, [(rows(4),), (rows(9),)])
    assert len(both.observations) == len(calibration.observations)


@pytest.mark.parametrize("count", [4, 9])
def test_what_has_changed_since_is_unknown_and_the_rest_is_known(count):
    def changed(x):
        return jnp.tanh((x - x.mean(0)) * 0.003 * x) + (x - x.mean(0)) * 0.3

    def before(x):
        return jnp.tanh((x - x.mean(0)) * 0.003 * x) + (x - x.mean(0)) * 0.2

    calibration = ditto.calibrate(before, [(rows(4),)])
    x = rows(count)
    _, unknown = seen(calibration, changed, x)
    assert unknown == ["multiply", "add"]
    with pytest.warns(RangeWarning, match="2 operations of the program are not those that were calibrated"):
        lowered = ditto.secure(changed, calibration=calibration).lower(x)
    grounds = {row.ground for row in lowered.ranges(calibration).rows if row.op == "tanh"}
    assert "unknown" not in grounds
    with pytest.raises(InputError, match="knows no operation of this program"):
        ditto.secure(shifted, calibration=calibration).lower(x)


def test_a_name_vouches_for_what_enters_another_path():
    def model(factor):
        def f(x):
            with jax.named_scope("first"):
                y = (x - x[:1]) * factor
            with jax.named_scope("second"):
                return jnp.tanh(y) * 0.3

        return f

    calibration = ditto.calibrate(model(0.7), [(rows(4),)])
    assert seen(calibration, model(0.9), rows(9))[1] == ["multiply"]
    assert seen(calibration, model(0.9), rows(4))[1] == ["multiply", "tanh", "multiply"]


def test_a_rule_may_speak_about_one_of_several_operations(tmp_path):
    x = rows(4)
    calibrated = ditto.secure(two_sizes, calibration=ditto.calibrate(two_sizes, [(x,)]))
    text = calibrated.lower(x).as_text("config")
    assert "number = 1\nof = 3" in text
    file = tmp_path / "mine.toml"
    file.write_text(text)
    plain = ditto.secure(two_sizes, config=file)
    assert str(plain.lower(x).plan).replace("mine", "auto") == str(calibrated.lower(x).plan)
    np.testing.assert_allclose(plain(x), two_sizes(x), atol=0.01)
    with pytest.raises(ConfigError, match=r"rule \d+: it was written for a program with \d ops of kind"):
        ditto.secure(lambda x: two_sizes(x) * x, config=file).lower(x)


DIFFERENCES = {
    "behind a quotient": (lambda x: x[1:] / x[:-1] - 1, (100 + np.cumsum(rows(4).ravel()),)),
    "behind a product": (lambda x, y: x * y - 300.01, (100 + rows(2, 1e-3), 3 + rows(2, 1e-4))),
    "of squares": (lambda x: jnp.mean(x * x) - jnp.mean(x) ** 2, (30 + rows(4, 0.3),)),
    "of roots": (lambda x: jnp.sqrt(x * 1.1) - 10.4, (100 + rows(2, 0.5),)),
    "small divisors": (lambda x, y: x / (y * 0.5), (rows(2), np.logspace(-2, 3, 12).reshape(2, 6))),
    "small arguments": (lambda x: jnp.log(x * 2.0), (np.logspace(-3, 3, 12),)),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_values_have_the_bits_that_differences_behind_them_need(name):
    fn, args = DIFFERENCES[name]
    args = tuple(each.astype(np.float32) for each in args)
    got = ditto.secure(fn, calibration=ditto.calibrate(fn, [args]))(*args)
    expected = np.asarray(fn(*args), np.float64)
    assert np.max(np.abs(got - expected)) <= 0.03 * np.sqrt(np.mean(expected**2))


MATRIX = (np.eye(3) * 4 + np.random.default_rng(1).standard_normal((3, 3))).astype(np.float32)
SOLVERS = {
    "cholesky": (jnp.linalg.cholesky, (MATRIX @ MATRIX.T,)),
    "qr": (lambda a: jnp.linalg.qr(a)[1], (MATRIX,)),
    "inv": (jnp.linalg.inv, (MATRIX,)),
    "solve": (jnp.linalg.solve, (MATRIX, MATRIX[0])),
}


@pytest.mark.parametrize(
    "name",
    ["cholesky", *(pytest.param(each, marks=pytest.mark.slow) for each in SOLVERS if each != "cholesky")],
)
def test_solvers_are_right_with_a_calibration(name):
    fn, args = SOLVERS[name]
    got = ditto.secure(fn, calibration=ditto.calibrate(fn, [args]))(*args)
    expected = np.asarray(fn(*args), np.float64)
    assert np.max(np.abs(got - expected)) <= 0.01 * np.max(np.abs(expected))


def test_new_layout_has_the_values_of_what_it_rearranges():
    def other(x):
        return two_sizes(jnp.flip(x, 1).T.T)[::-1].reshape(-1, 3)

    calibration = ditto.calibrate(two_sizes, [(rows(4),)])
    found, unknown = seen(calibration, other, rows(9))
    assert unknown == []
    assert seen(calibration, two_sizes, rows(9))[0][-1] in found
