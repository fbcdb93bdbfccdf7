"""Values in range are never refused, and values that leave it are, in every ring."""

import numpy as np
import pytest

from ditto_kernels.guard.range_guard import admitted, coarse, guard_ranges
from ditto_kernels.guard.wraps import WRAPS
from ditto_kernels.values.formats import Fxp

F = Fxp.parse
RANGES = {
    "half of ring 64": ("fxp64.18", (-(2.0**44), 2.0**44)),
    "half of ring 32": ("fxp32.12", (-(2.0**18), 2.0**18)),
    "half of ring 16": ("fxp16.8", (-64.0, 64.0)),
    "a window in ring 16": ("fxp16.10", (-28.5, 28.5)),
    "a quarter of ring 16": ("fxp16.8", (-32.0, 32.0)),
    "ring 8": ("fxp8.4", (-4.0, 4.0)),
    "small": ("fxp32.12", (-3.0, 3.0)),
    "positive": ("fxp32.12", (0.25, 2.0**18)),
    "from zero": ("fxp64.18", (0.0, 2.0**44)),
    "from below": ("fxp64.18", (-np.inf, 16.6)),
}


def refused(mpc, values, fxp, range):
    value = mpc(guard_ranges, (values, F(fxp)), out=WRAPS, ranges=(range,)).value
    return bool((np.abs(value) >= 0.5).any())


@pytest.mark.parametrize(("fxp", "range"), RANGES.values(), ids=RANGES)
def test_right_or_refused(mpc, rng, fxp, range):
    low, high = range[0] if np.isfinite(range[0]) else -F(fxp).limit / 2, range[1]
    least, most = (float(np.clip(end, low, high)) for end in admitted(range, F(fxp)))
    assert least < most and (not coarse(range, F(fxp)) or most >= high / 2)
    last = most - F(fxp).ulp - 2.0**-50 * most
    inside = np.concatenate([np.minimum(rng.uniform(least, most, 400), last), [least, last]])
    assert not refused(mpc, inside, fxp, range)
    ulp = F(fxp).ulp + 2.0**-50 * max(-low, high)
    top = F(fxp).limit - 2 * ulp
    beyond = rng.uniform(high + ulp, top), rng.uniform(-top, low - ulp)
    for value in (low - ulp, high + ulp, -top, top, *beyond):
        inside[7] = value
        assert refused(mpc, inside, fxp, range), value


@pytest.mark.parametrize(("fxp", "high"), [("fxp64.18", 2.0**44), ("fxp32.12", 100.0)])
def test_small_magnitudes_are_refused(mpc, rng, fxp, high):
    least, range = 2.0**-7, (-high, high, 2.0**-7)
    values = rng.uniform(0.1, high, 50) * rng.choice([-1, 1], 50)
    values[:2] = least, -least
    assert not refused(mpc, values, fxp, range)
    for value in (0.0, least - F(fxp).ulp, F(fxp).ulp - least, 1.5 * high):
        values[7] = value
        assert refused(mpc, values, fxp, range), value


def test_one_of_several_values_is_enough(mpc):
    values = [np.zeros((3, 5)), np.zeros(4), np.full(9, 1.0)]
    formats = [F("fxp16.8"), F("fxp32.12"), F("fxp32.12")]
    ranges = ((-64.0, 64.0), (-(2.0**18), 2.0**18), (0.5, 2.0))
    for place in (None, 0, 1, 2):
        changed = [each.copy() for each in values]
        if place is not None:
            changed[place].flat[2] = formats[place].limit * 0.9
        pairs = list(zip(changed, formats, strict=True))
        value = mpc(guard_ranges, *pairs, out=WRAPS, ranges=ranges).value
        assert (np.abs(value) >= 0.5).any() == (place is not None)
