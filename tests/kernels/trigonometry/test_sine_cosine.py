"""Sine and cosine over all magnitudes that a format holds, octave by octave; exact angles."""

import math

import numpy as np
import pytest

from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.trigonometry.sine_cosine import SINE, WAVES
from ditto_kernels.trigonometry.turns import angle_of, angles, waves
from ditto_kernels.values.formats import Fxp

FORMATS = [
    ("fxp32.12", "fxp32.12"),
    ("fxp64.18", "fxp64.18"),
    ("fxp64.40", "fxp64.30"),
    ("fxp64.18", "fxp32.20"),
    ("fxp16.6", "fxp32.12"),
    ("fxp32.0", "fxp16.10"),
    ("fxp8.5", "fxp8.5"),
    ("fxp64.0", "fxp32.14"),
]


def every_octave(bits, rng, count=20):
    """Return whole numbers of at most 53 bits in every octave below 2^bits, with the ends of the octaves."""
    drawn = [np.floor(2.0 ** (octave + rng.random(count))) for octave in range(bits)]
    ends = [[2.0**octave - 1, 2.0**octave, 2.0**octave + 1] for octave in range(1, min(bits, 52))]
    return np.concatenate([*drawn, *ends, [0.0, 2.0**bits - 2.0 ** max(0, bits - 53)]])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize(("source", "target"), FORMATS)
def test_every_octave_of_either_sign(mpc, source, target, wave):
    fxp, out, rng = Fxp.parse(source), Fxp.parse(target), np.random.default_rng(0)
    x = every_octave(fxp.ring_bits - 2, rng) * fxp.ulp
    x = np.concatenate([x, -x, [-(2.0 ** (fxp.ring_bits - 2)) * fxp.ulp]])
    exact = SINE.reference(x, wave=wave)
    spec = Spec(x.shape, fxp)
    for dealer in range(3):
        outcome = mpc(SINE.run, (x, fxp), out=out, wave=wave, dealer=dealer)
        assert np.max(np.abs(outcome.value - exact)) <= SINE.error(spec, out=out)
        outcome.assert_cost(SINE.cost(spec, out=out, wave=wave), dealer)


def test_what_is_no_wave_or_has_too_many_bits_is_refused(mpc):
    with pytest.raises(ValueError, match="no wave"):
        mpc(SINE.run, (np.ones(2), Fxp(32, 12)), out=Fxp(32, 12), wave="saw")
    with pytest.raises(ValueError, match="60 fraction bits"):
        SINE.error(Spec((2,), Fxp(64, 12)), out=Fxp(64, 62))


@pytest.mark.parametrize(("bits", "fraction"), [(64, 18), (64, 0), (32, 12), (16, 15)])
def test_angles_are_exact_to_a_unit(bits, fraction):
    value = np.random.default_rng(1).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 200).astype(f"int{bits}")
    for one, angle in zip(value.tolist(), angles(value, fraction).tolist(), strict=True):
        assert (int(angle_of(one % 2**bits, fraction)) - angle) % 2**64 <= 1


def test_waves_of_all_quarters():
    turns = np.arange(-1, 4097) / 4096
    cosine, sine = waves(np.rint(turns % 1 * 2.0**63).astype(np.uint64) * np.uint64(2))
    assert np.max(np.abs(cosine - np.cos(2 * math.pi * turns))) < 2.0**-49
    assert np.max(np.abs(sine - np.sin(2 * math.pi * turns))) < 2.0**-49
