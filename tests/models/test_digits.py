"""The trained model of digits draws what it is asked for, under three parties as in floats."""

import numpy as np
import pytest

import ditto_spu as ditto
from ditto_spu.diffusion.pictures import psnr
from ditto_spu.models import digits, named_model

SHAPE = (10, 8, 8, 1)


def test_the_weights_are_those_of_the_named_model() -> None:
    made = named_model("unet-digits").build()
    leaves = [each for block in digits.load() for each in _leaves(block)]
    assert sum(each.size for each in _leaves(made.args[0])) == named_model("unet-digits").parameters
    assert all(np.isfinite(each).all() and each.dtype == np.float32 for each in leaves)


def test_floats_draw_the_digits_asked_for() -> None:
    """Twenty pictures by DDIM, judged by a classifier that was trained apart."""
    params, judge = digits.load()
    labels = np.tile(np.arange(10), 2)
    sampler = ditto.Sampler(digits.unet(), params, (20, *SHAPE[1:]), digits.SCHEDULE, steps=20)
    found = digits.classes_of(judge, sampler.plaintext(labels, seed=1))
    assert np.mean(found == labels) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("calibrated", [False, True])
def test_three_parties_draw_the_same_digits(calibrated: bool) -> None:
    params, judge = digits.load()
    labels = np.arange(10)
    usual = ditto.Sampler(digits.unet(), params, SHAPE, digits.SCHEDULE, steps=20)
    calibration = usual.calibrate(labels, seed=2) if calibrated else None
    sampler = ditto.Sampler(digits.unet(), params, SHAPE, digits.SCHEDULE, steps=20, calibration=calibration)
    made, expected = sampler.sample(labels, seed=1).pictures, usual.plaintext(labels, seed=1)
    assert psnr(made, expected) > (45 if calibrated else 75)
    assert np.array_equal(digits.classes_of(judge, made), digits.classes_of(judge, expected))


def _leaves(tree: dict) -> list[np.ndarray]:
    return [leaf for each in tree.values() for leaf in (_leaves(each) if isinstance(each, dict) else [each])]
