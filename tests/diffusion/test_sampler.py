"""A sampler draws what floats draw from the same noise, with one compiled step, and opens the end alone."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.architectures.unet import UNet, initial
from ditto_spu.diffusion.pictures import psnr
from ditto_spu.errors import DittoError, RangeError

RANDOM = np.random.default_rng(4)
SHAPE = (2, 3, 3, 2)
PARAMS = {
    "mix": (RANDOM.standard_normal((2, 2)) / 2).astype(np.float32),
    "time": RANDOM.standard_normal((4, 2)).astype(np.float32),
}


def conditions(params: Any, times: Any) -> Any:
    """Return [steps, labels, channels], of sines of the timesteps."""
    return jnp.sin(times[:, None, None] * params["time"] / 100)


def predict(params: Any, x: Any, condition: Any, labels: Any) -> Any:
    return jnp.tanh(x @ params["mix"] + (labels @ condition)[:, None, None, :])


MODEL = ditto.Denoiser(conditions, predict, labels=4)


def plain(params: Any, x: Any, time: Any) -> Any:
    return jnp.tanh(x @ params["mix"]) * jnp.cos(time / 500)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "ddpm"},
        {"eta": 0.5, "clip": False},
        {"guidance": 2.0},
    ],
    ids=str,
)
def test_pictures_are_those_of_floats(options: dict[str, Any]) -> None:
    sampler = ditto.Sampler(MODEL, PARAMS, SHAPE, steps=4, **options)
    made, expected = sampler.sample([2, 0], seed=3), sampler.plaintext([2, 0], seed=3)
    np.testing.assert_allclose(made.pictures, expected, atol=2e-2 if "eta" in options else 2e-3)
    assert len(sampler._secure._compiled) == 1
    assert [each.pictures is None for each in made.steps] == [True, True, True, False]
    assert not [row for each in made.steps for row in each.report.rows if row.kind == "spu"]
    assert made.steps[0].report.hoisted["server"] > 0
    assert {each.report.rounds for each in made.steps} == {made.steps[0].report.rounds}
    assert not np.array_equal(sampler.plaintext([2, 1], seed=3)[1], expected[1])
    assert not np.array_equal(sampler.plaintext([2, 0], seed=4), expected)


def test_a_plain_function_is_a_model() -> None:
    told: list[tuple[int, int]] = []
    made = ditto.sample(plain, PARAMS, SHAPE, steps=2, seed=1, progress=lambda *at: told.append(at))
    expected = ditto.Sampler(plain, PARAMS, SHAPE, steps=2).plaintext(seed=1)
    np.testing.assert_allclose(made.pictures, expected, atol=2e-3)
    assert told == [(1, 2), (2, 2)]
    assert [row["time"] for row in made.as_dicts()] == [999, 499] and "rounds" in str(made)


def test_a_calibrated_sampler_is_cheaper() -> None:
    usual = ditto.Sampler(MODEL, PARAMS, SHAPE, steps=3)
    calibration = usual.calibrate([1, 2], seed=8)
    narrow = ditto.Sampler(MODEL, PARAMS, SHAPE, steps=3, calibration=calibration)
    made, expected = narrow.sample([1, 2], seed=9), usual.plaintext([1, 2], seed=9)
    assert psnr(made.pictures, expected) > 35
    sent = [sum(each.steps[-1].report.bytes_sent_per_party) for each in (made, usual.sample([1, 2], seed=9))]
    assert sent[0] < 0.8 * sent[1]


@pytest.mark.slow
def test_a_unet_draws() -> None:
    unet = UNet(base=4, multiples=(1, 2), attention=(), groups=2, classes=2)
    params = initial(unet, 4)
    sampler = ditto.Sampler(unet, params, (1, 4, 4, 1), steps=2)
    made, expected = sampler.sample([1], seed=1), sampler.plaintext([1], seed=1)
    assert psnr(made.pictures, expected) > 55
    assert not [row for row in made.steps[0].report.rows if row.kind == "spu"]


def test_a_value_that_leaves_its_range_between_steps_is_no_picture() -> None:
    def model(params: Any, x: Any, time: Any) -> Any:
        return x * params

    huge = np.float32(1e5)  # the first picture fits, and the second does not
    with pytest.raises(RangeError, match=r"step 2 of 2, timestep 499: .*checked=True names the value"):
        ditto.sample(model, huge, (1, 2, 2, 1), steps=2, seed=1)
    with pytest.raises(RangeError, match=r"step 2 of 2, .*reached 1\.\d+e\+08"):
        ditto.sample(model, huge, (1, 2, 2, 1), steps=2, seed=1, checked=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ditto.Sampler(MODEL, PARAMS, (3, 3, 2)), "give .batch, height, width, channels"),
        (lambda: ditto.Sampler(plain, PARAMS, SHAPE, guidance=2.0), "leave it out"),
        *(
            (lambda shape=shape: ditto.Sampler(MODEL, PARAMS, shape), "give .batch, height, width, channels")
            for shape in (5, None, "abcd", (1, 2, 2, float("nan")), (0, 3, 3, 2))
        ),
        *(
            (lambda by=by: ditto.Sampler(MODEL, PARAMS, SHAPE, guidance=by), "guidance is .*: give a finite")
            for by in (float("nan"), float("inf"), "2")
        ),
        (lambda: ditto.Sampler(MODEL, PARAMS, SHAPE, {"length": 9}), "give a ditto.Schedule"),  # type: ignore
        (lambda: ditto.Sampler(MODEL, PARAMS, SHAPE).stream([1, 2], -1), "seed is -1"),
        (lambda: ditto.sample(lambda p, x, t: x[..., :1], PARAMS, SHAPE, steps=1), "both have to be equal"),
        (lambda: ditto.Sampler(3, PARAMS, SHAPE), "a diffusion model is"),
        (lambda: ditto.Sampler(MODEL, PARAMS, SHAPE, method="euler"), "choose ddim or ddpm"),
        (lambda: ditto.Sampler(plain, PARAMS, SHAPE).stream([1, 2]), "leave labels out"),
        (lambda: ditto.Sampler(MODEL, PARAMS, SHAPE).stream([1]), "one for each picture"),
        (lambda: ditto.Sampler(MODEL, PARAMS, SHAPE).stream([1, 4]), "0 to 2"),
        (lambda: ditto.Sampler(MODEL, PARAMS, SHAPE).stream([0.5, 1.0]), "integers"),
    ],
)
def test_what_cannot_be_sampled(make: Any, reason: str) -> None:
    with pytest.raises(DittoError, match=reason):
        make()
