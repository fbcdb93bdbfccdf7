"""Steps of DDIM and DDPM have the numbers of their papers."""

import numpy as np
import pytest

from ditto_spu.diffusion.schedule import Schedule, Steps, steps_of
from ditto_spu.errors import InputError

SCHEDULE = Schedule()
RANDOM = np.random.default_rng(5)


def after(steps: Steps, place: int, x: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return x after one step without fresh noise."""
    picture = steps.from_x[place] * x - steps.from_noise[place] * noise
    return steps.to_picture[place] * picture + steps.to_noise[place] * noise + steps.to_x[place] * x


@pytest.mark.parametrize("count", [1, 7, 50, 1000])
def test_ddim_that_knows_the_noise_finds_the_picture(count: int) -> None:
    steps, (picture, noise) = steps_of(SCHEDULE, count), RANDOM.standard_normal((2, 5))
    left = SCHEDULE.signal[steps.times[0]]
    x = np.sqrt(left) * picture + np.sqrt(1 - left) * noise
    for place, at in enumerate(steps.times):
        left = SCHEDULE.signal[at]
        np.testing.assert_allclose(x, np.sqrt(left) * picture + np.sqrt(1 - left) * noise, atol=1e-4)
        x = after(steps, place, x, noise)
    np.testing.assert_allclose(x, picture, atol=1e-3)
    assert not steps.noisy and len(steps.times) == count and steps.times[0] == 999


def test_ddpm_has_the_mean_and_the_variance_of_its_paper() -> None:
    steps, betas = steps_of(SCHEDULE, 1000, "ddpm"), np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - betas)
    x, noise = RANDOM.standard_normal((2, 5))
    for place, at in enumerate(steps.times[:-1]):
        mean = (x - betas[at] / np.sqrt(1 - kept[at]) * noise) / np.sqrt(1 - betas[at])
        np.testing.assert_allclose(after(steps, place, x, noise), mean, rtol=1e-3, atol=1e-4)
        variance = (1 - kept[at - 1]) / (1 - kept[at]) * betas[at]
        np.testing.assert_allclose(steps.fresh[place] ** 2, variance, rtol=1e-4)
    assert steps.fresh[-1] == 0


def test_ddim_with_all_its_noise_is_ddpm() -> None:
    ddim, ddpm = steps_of(SCHEDULE, 40, "ddim", 1.0), steps_of(SCHEDULE, 40, "ddpm")
    x, noise = RANDOM.standard_normal((2, 5))
    for place in range(40):
        np.testing.assert_allclose(
            after(ddim, place, x, noise), after(ddpm, place, x, noise), rtol=1e-3, atol=1e-3
        )
    np.testing.assert_allclose(ddim.fresh, ddpm.fresh, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0,), "1 to 1000"),
        ((2.5,), "steps is 2.5: give a whole number"),
        ((5, "ddim", float("nan")), "eta is nan: give a finite number"),
        ((1001,), "1 to 1000"),
        ((5, "euler"), "choose ddim or ddpm"),
        ((5, "ddim", 1.5), "between 0 and 1"),
        ((5, "ddpm", 0.5), "leave eta out"),
    ],
)
def test_steps_that_cannot_be(arguments: tuple[object, ...], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        steps_of(SCHEDULE, *arguments)


def test_schedules_that_cannot_be() -> None:
    with pytest.raises(InputError, match="at least one"):
        Schedule(0)
    with pytest.raises(InputError, match="they grow"):
        Schedule(10, 0.2, 0.1)
    with pytest.raises(InputError, match="length is nan: give a whole number"):
        Schedule(float("nan"))  # type: ignore[arg-type]
