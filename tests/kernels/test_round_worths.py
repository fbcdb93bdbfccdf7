"""Where rounds are dear, kernels take other protocols: right in their whole range, at their own cost."""

import numpy as np
import pytest

from ditto_kernels import KERNELS
from ditto_kernels.norm.norm_plan import VARIANCE
from ditto_kernels.norm.rms_norm import MEAN_SQUARE
from ditto_kernels.protocol.kernel import Spec
from ditto_kernels.protocol.round_worth import ROUND_WORTH, ROUND_WORTHS
from ditto_kernels.values.formats import Fxp

F = Fxp.parse


def _on(values, fxp):
    return np.rint(np.asarray(values) / fxp.ulp) * fxp.ulp


def _spread(rng, lo, hi, count):
    """Return numbers from one end of a range to the other, with both ends among them."""
    inside = np.exp(rng.uniform(np.log(lo), np.log(hi), count - 2))
    return np.concatenate([[lo, hi * (1 - 1e-3)], inside])


def _rows(rng, count, length, span, centred):
    """Return rows of every mean square in the span."""
    x = rng.normal(size=(count, length))
    x -= x.mean(-1, keepdims=True) * centred
    x *= np.sqrt(_spread(rng, *span, count)[:, None] / np.mean(x * x, axis=-1, keepdims=True))
    return x + 20 * centred


def _operands(name, rng):
    """Return (operands, format of the result, attributes) of a call that is one of many elements usually."""
    if name == "layer_norm":
        x = _on(_rows(rng, 24, 96, VARIANCE, True), F("fxp32.12"))
        vectors = [(_on(rng.uniform(-3, 3, 96), F("fxp64.12")), F("fxp64.12")) for _ in range(2)]
        return [(x, F("fxp32.12")), *vectors], "fxp32.12", {}
    if name == "rms_norm":
        x = _on(_rows(rng, 24, 96, MEAN_SQUARE, False), F("fxp32.14"))
        return (
            [(x, F("fxp32.14")), (_on(rng.uniform(-1, 1, 96), F("fxp64.12")), F("fxp64.12"))],
            "fxp32.11",
            {},
        )
    if name == "softmax":
        x = _on(rng.uniform(-200, 200, (96, 64)), F("fxp16.6"))
        x[:4] = np.array([200.0, -200.0, 0.0, 0.0])[:, None]
        x[3, ::2] = 200.0
        attributes = {"range": 200.0, "scale": 0.125, "inner": F("fxp32.14")}
        return [(x, F("fxp16.6"))], "fxp32.14", attributes
    if name in ("reduce_max", "argmax"):
        return [(_on(rng.uniform(-60, 60, (96, 32)), F("fxp16.8")), F("fxp16.8"))], "fxp16.8", {}
    if name == "gelu":
        x = np.concatenate([np.linspace(-60, 60, 3072), rng.normal(size=4096)])
        return [(_on(x, F("fxp16.9")), F("fxp16.9"))], "fxp32.9", {}
    if name == "exponential":
        return [(_on(rng.uniform(-8, 3, 4096), F("fxp16.8")), F("fxp16.8"))], "fxp32.14", {"hi": 3.0}
    lo, hi = 2.0**-4, 2.0**8
    y = (_on(_spread(rng, lo, hi, 512), F("fxp32.14")), F("fxp32.14"))
    if name == "divide":
        x = (_on(rng.uniform(-10, 10, 512), F("fxp32.14")), F("fxp32.14"))
        return [x, y], "fxp32.12", {"lo": lo, "hi": hi, "range": 160.0}
    return [y], "fxp32.14", {"lo": lo, "hi": hi}


# For each kernel, its rounds where they are cheapest and where they are dearest.
ROUNDS = {
    "layer_norm": (10, 5),
    "rms_norm": (11, 5),
    "softmax": (21, 9),
    "reduce_max": (12, 9),
    "argmax": (13, 13),
    "gelu": (5, 4),
    "exponential": (6, 5),
    "reciprocal": (7, 4),
    "rsqrt": (9, 4),
    "divide": (11, 8),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_right_at_every_worth_of_a_round(mpc, rng, name):
    kernel = KERNELS[name]
    operands, target, attributes = _operands(name, rng)
    out, specs = F(target), [Spec(np.shape(value), fxp) for value, fxp in operands]
    expected = kernel.reference(*(value for value, _ in operands), **attributes)
    bound, seen, rounds = kernel.error(*specs, out=out, **attributes), set(), []
    for dealer, worth in enumerate(ROUND_WORTHS):
        cost = kernel.cost(*specs, out=out, worth=worth, **attributes)
        rounds.append(cost.rounds)
        if cost in seen:
            continue
        seen.add(cost)

        def run(party, *parts, worth=worth):
            return kernel.run(party._replace(worth=worth), *parts, out=out, **attributes)

        outcome = mpc(run, *operands, dealer=dealer % 3)
        assert np.max(np.abs(outcome.value - expected)) <= bound
        outcome.assert_cost(cost, dealer % 3)
    assert rounds == sorted(rounds, reverse=True) and (rounds[0], rounds[-1]) == ROUNDS[name]
    variants = {kernel.variant(*specs, out=out, worth=worth, **attributes) for worth in ROUND_WORTHS}
    assert len(variants) > 1  # Plans show which protocol is taken.


def test_the_least_worth_is_that_of_one_host():
    assert ROUND_WORTHS[0] == ROUND_WORTH and list(ROUND_WORTHS) == sorted(ROUND_WORTHS)
