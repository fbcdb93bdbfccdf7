"""The precise form errs by some steps of ring 64: for small arguments, in the tails and where ends meet."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode

FUNCTIONS = [
    ("tanh", {}),
    ("sigmoid", {}),
    ("silu", {}),
    ("softplus", {}),
    ("mish", {}),
    ("gelu", {"approximate": "erf"}),
    ("gelu", {"approximate": "tanh"}),
]
ENDS = (4.75, 5.0, 5.25, 6.25, 6.5, 12.5, 13.0, 14.5, 15.0)
SPREAD = np.concatenate([np.linspace(-20, 20, 1001), *(end + np.linspace(-0.01, 0.01, 9) for end in ENDS)])
SMALL = np.array([0.0, 1e-5, 0.001, -0.001, 0.01, -0.01, 0.1, -8.0, -10.0, -12.0])
FAR = np.array([-1e9, -1e4, 1e4, 1e9])


def errors(mpc, name, x, source, target, dealer, **attributes):
    """Return the error of every element, after bound, cost and range are checked."""
    x_fxp, out, kernel = Fxp.parse(source), Fxp.parse(target), KERNELS[name]
    x, spec = decode(encode(x, x_fxp), x_fxp), Spec(x.shape, x_fxp)
    attributes = {**attributes, "approx": "precise"}
    outcome = mpc(kernel.run, (x, x_fxp), dealer=dealer, out=out, **attributes)
    outcome.assert_cost(kernel.cost(spec, out=out, **attributes), dealer)
    apart = np.abs(outcome.value - kernel.reference(x, **attributes))
    assert apart.max() <= kernel.error(spec, out=out, **attributes)
    return apart


@pytest.mark.parametrize(("name", "attributes"), FUNCTIONS)
def test_ring_64(mpc, name, attributes):
    x = np.concatenate([SPREAD, -SPREAD, SMALL, FAR])
    assert errors(mpc, name, x, "fxp64.18", "fxp64.18", 0, **attributes).max() < 2.5e-5


@pytest.mark.parametrize(("name", "attributes"), FUNCTIONS)
@pytest.mark.parametrize(
    ("source", "target"), [("fxp64.22", "fxp64.18"), ("fxp64.18", "fxp32.10"), ("fxp32.12", "fxp64.18")]
)
def test_other_formats(mpc, name, attributes, source, target):
    errors(mpc, name, np.concatenate([SPREAD, -SPREAD, SMALL]), source, target, 1, **attributes)


@pytest.mark.parametrize("name", ["tanh", "silu", "gelu"])
def test_small_arguments_keep_their_digits(mpc, name):
    x = np.array([0.01, -0.01, 0.03, -0.03, 0.1, -0.1])
    apart = errors(mpc, name, np.tile(x, 50), "fxp64.22", "fxp64.22", 2)
    assert (apart.reshape(50, -1) < 2e-3 * np.abs(KERNELS[name].reference(x))).all()
