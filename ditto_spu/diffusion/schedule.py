"""Noise schedules, and the numbers of each step of DDIM and DDPM. All of them are public."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ditto_spu.errors import InputError, require_finite, require_whole

METHODS = ("ddim", "ddpm")


@dataclass(frozen=True)
class Schedule:
    """How much noise a picture holds after each of `length` timesteps. The variances grow linearly.

    first, last: the variance of the noise that the first and the last timestep add.
    Raises InputError for numbers that are no schedule.
    """

    length: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self) -> None:
        require_whole(length=self.length)
        require_finite(first=self.first, last=self.last)
        if self.length < 1:
            raise InputError(f"a schedule of {self.length} timesteps: it has at least one")
        if not 0 < self.first <= self.last < 1:
            raise InputError(
                f"variances from {self.first:g} to {self.last:g}: they grow from above 0 to below 1"
            )

    @property
    def signal(self) -> NDArray[np.float64]:
        """The share of the picture in the variance after each timestep, which falls from near 1 to near 0."""
        return np.cumprod(1 - np.linspace(self.first, self.last, self.length))


@dataclass(frozen=True)
class Steps:
    """The timesteps that a sampler visits, from noise to the picture, and the numbers of each step.

    With e the predicted noise, a step computes the picture p = clip(from_x x - from_noise e), and then
    x' = to_picture p + to_noise e + to_x x + fresh n, where n is fresh noise.

    times: the timesteps. The other arrays have one number for each of them.
    """

    times: NDArray[np.int32]
    from_x: NDArray[np.float32]
    from_noise: NDArray[np.float32]
    to_picture: NDArray[np.float32]
    to_noise: NDArray[np.float32]
    to_x: NDArray[np.float32]
    fresh: NDArray[np.float32]

    @property
    def noisy(self) -> bool:
        """Whether any step adds fresh noise."""
        return bool(self.fresh.any())

    @property
    def numbers(self) -> NDArray[np.float32]:
        """The six numbers of every step, as [steps, 6], in the order of the fields."""
        fields = (self.from_x, self.from_noise, self.to_picture, self.to_noise, self.to_x, self.fresh)
        return np.stack(fields, axis=-1)


def steps_of(schedule: Schedule, steps: int, method: str = "ddim", eta: float = 0.0) -> Steps:
    """Return the steps of DDIM (arXiv 2010.02502) or DDPM (arXiv 2006.11239) over a schedule.

    steps: how many evenly spaced timesteps are visited, at most the schedule's length.
    eta: the fresh noise of DDIM, from 0 (none, so that the first noise decides the picture) to 1.
    Raises InputError for a method that is unknown, for too many steps, and for an eta that does not fit.
    """
    if method not in METHODS:
        raise InputError(f"method is '{method}': choose {' or '.join(METHODS)}")
    require_whole(steps=steps)
    require_finite(eta=eta)
    if not 1 <= steps <= schedule.length:
        raise InputError(f"steps is {steps}: the schedule has 1 to {schedule.length} timesteps")
    if not 0 <= eta <= 1:
        raise InputError(f"eta is {eta:g}: it lies between 0 and 1")
    if method == "ddpm" and eta:
        raise InputError("eta belongs to DDIM: DDPM draws fresh noise in every step, so leave eta out")
    times = np.rint(schedule.length * (1 - np.arange(steps) / steps)).astype(np.int32) - 1
    signal = schedule.signal
    now, then = signal[times], np.append(signal[times[1:]], 1.0)
    variance = (1 - then) / (1 - now) * (1 - now / then)  # of the fresh noise, given the picture
    zero = np.zeros(steps)
    if method == "ddpm":
        kept = now / then  # of the signal of the step before
        to_picture = np.sqrt(then) * (1 - kept) / (1 - now)
        rest = (zero, np.sqrt(kept) * (1 - then) / (1 - now), np.sqrt(variance))
    else:
        variance = eta**2 * variance
        to_picture = np.sqrt(then)
        rest = (np.sqrt(np.maximum(1 - then - variance, 0.0)), zero, np.sqrt(variance))
    numbers = (1 / np.sqrt(now), np.sqrt(1 / now - 1), to_picture, *rest)
    return Steps(times, *(np.asarray(each, np.float32) for each in numbers))
