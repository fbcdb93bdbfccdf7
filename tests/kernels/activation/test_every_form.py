"""Every form of every activation is tested at every operand of 16-bit formats, and with wider ones."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.values.formats import Fxp, decode, encode

FORMS = [
    ("gelu", approx, 4.25) for approx in ("fourier", "table", "even", "puma")
] + [  # The third entry is the room that must be left to half of the ring.
    *(("silu", approx, 8.5) for approx in ("fourier", "table", "even", "cipherdm")),
    *(("softplus", approx, 8.5) for approx in ("fourier", "table")),
    *(("mish", approx, 8.5) for approx in ("fourier", "table", "cipherdm")),
    *(("tanh", approx, 4.25) for approx in ("fourier", "table", "odd")),
    *(("sigmoid", approx, 7.5) for approx in ("fourier", "table", "odd")),
]


def check(mpc, name, x, source, target, dealer, **attributes):
    x_fxp, out = Fxp.parse(source), Fxp.parse(target)
    kernel, spec = KERNELS[name], Spec(x.shape, x_fxp)
    x = decode(encode(x, x_fxp), x_fxp)
    outcome = mpc(kernel.run, (x, x_fxp), dealer=dealer, out=out, **attributes)
    outcome.assert_cost(kernel.cost(spec, out=out, **attributes), dealer)
    error = np.abs(outcome.value - kernel.reference(x, **attributes)).max()
    assert error <= kernel.error(spec, out=out, **attributes)
    return error


def every(source, room):
    """Return every operand of a 16-bit format that leaves so much room, twice: under two masks."""
    step = Fxp.parse(source).ulp
    edge = 2**15 - int(room / step)
    return np.tile(np.arange(-edge, edge) * step, 2)


@pytest.mark.parametrize(("name", "approx", "room"), FORMS)
@pytest.mark.parametrize(
    ("source", "target", "dealer"),
    [("fxp16.9", "fxp16.9", 0), ("fxp16.9", "fxp32.11", 1), ("fxp16.8", "fxp32.8", 2)],
)
def test_every_operand(mpc, name, approx, room, source, target, dealer):
    check(mpc, name, every(source, room), source, target, dealer, approx=approx)


@pytest.mark.parametrize(("name", "approx", "room"), FORMS)
@pytest.mark.parametrize(
    ("source", "target", "dealer"),
    [
        ("fxp16.10", "fxp32.12", 0),
        ("fxp32.12", "fxp32.12", 1),
        ("fxp64.18", "fxp64.18", 2),
        ("fxp64.18", "fxp32.8", 0),
        ("fxp32.10", "fxp16.9", 1),
        ("fxp32.14", "fxp32.12", 2),
    ],
)
def test_other_formats(mpc, rng, name, approx, room, source, target, dealer):
    reach = min(50.0, Fxp.parse(source).limit - room, Fxp.parse(target).limit - 1)
    x = np.concatenate([np.linspace(-9, 9, 3001), rng.uniform(-reach, reach, 1500)])
    check(mpc, name, x, source, target, dealer, approx=approx)


@pytest.mark.parametrize(
    ("source", "target", "reach"), [("fxp16.8", "fxp32.8", 63), ("fxp16.9", "fxp16.6", 31)]
)
def test_every_operand_of_the_quadratic(mpc, source, target, reach):
    step = Fxp.parse(source).ulp
    check(mpc, "gelu", np.arange(-reach / step, reach / step) * step, source, target, 1, approx="quad")


@pytest.mark.parametrize(
    ("name", "limit"), [("gelu", 0.0049), ("silu", 0.0055), ("tanh", 0.0035), ("sigmoid", 0.0035)]
)
def test_the_default_is_accurate_in_16_bits(name, limit):
    for out in ("fxp16.9", "fxp32.9", "fxp32.12"):
        assert KERNELS[name].error(Spec((3,), Fxp(16, 9)), out=Fxp.parse(out)) <= limit


@pytest.mark.parametrize(("name", "approx", "room"), FORMS)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5)])
def test_shapes(mpc, rng, name, approx, room, shape):
    check(mpc, name, rng.uniform(-6, 6, shape), "fxp16.9", "fxp32.10", 2, approx=approx)


def test_an_unknown_form_is_refused(mpc):
    with pytest.raises(ValueError, match="choose fourier or precise or table or odd"):
        mpc(KERNELS["tanh"].run, (np.ones(3), Fxp(16, 9)), out=Fxp(16, 9), approx="even")
