"""Sample pictures under MPC: one compiled step runs many times, and pictures stay in shares between steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from ditto_spu.api import ConfigSource, secure
from ditto_spu.calibration.calibration import Calibration
from ditto_spu.diffusion.denoiser import Denoiser, denoiser_of
from ditto_spu.diffusion.schedule import Schedule, steps_of
from ditto_spu.errors import InputError, RangeError, require_finite, require_seed
from ditto_spu.plan.cost_report import CostReport
from ditto_spu.plan.printed import printed
from ditto_spu.rules.load import DEFAULT, load_config

OWNER = "server"  # of the weights
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Step:
    """One step of a batch of pictures, and its cost.

    time: the public timestep.
    pictures: the pictures [batch, height, width, channels] after the last step, else None.
    seconds: the time of the step at the client.
    """

    number: int
    time: int
    report: CostReport
    seconds: float
    pictures: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Samples:
    """The pictures [batch, height, width, channels], and the cost of every step. Rich prints a table."""

    pictures: NDArray[np.float32]
    steps: tuple[Step, ...]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one row of plain data per step."""
        return [
            {
                "step": each.number,
                "time": each.time,
                "seconds": each.seconds,
                "bytes_sent_per_party": each.report.bytes_sent_per_party,
                "rounds": each.report.rounds,
            }
            for each in self.steps
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table("step", "time", "seconds", "MB sent per party", "rounds")
        for row in self.as_dicts():
            megabytes = sum(row["bytes_sent_per_party"]) / 3e6
            numbers = f"{row['seconds']:.2f}", f"{megabytes:.2f}", str(row["rounds"])
            table.add_row(str(row["step"]), str(row["time"]), *numbers)
        yield table

    def __str__(self) -> str:
        return printed(self)


class Sampler:
    """A diffusion model whose weights are shared once, for any number of batches of one shape.

    model: a UNet, a Denoiser or a function (see `denoiser_of`).
    params: the weights. Their owner computes time embeddings in plaintext.
    shape: [batch, height, width, channels] of the pictures. Their values lie from -1 to 1.
    steps, method, eta: as in `steps_of`.
    guidance: how far the predicted noise goes from that of any class to that of the label and beyond. None
        stands for 1, which needs no second prediction. Others compute both in one batch.
    clip: whether every step brings its picture between -1 and 1.
    config, calibration, checked: as in `secure`.

    Only the last picture is opened, to the client. Raises InputError for options that do not fit.
    """

    def __init__(
        self,
        model: Any,
        params: Any,
        shape: Sequence[int],
        schedule: Schedule | None = None,
        *,
        steps: int = 50,
        method: str = "ddim",
        eta: float = 0.0,
        guidance: float | None = None,
        clip: bool = True,
        config: ConfigSource = DEFAULT,
        calibration: Calibration | str | Path | None = None,
        checked: bool = False,
    ) -> None:
        self.denoiser = denoiser_of(model)
        self.shape = tuple(shape) if isinstance(shape, Sequence) else ()
        if len(self.shape) != 4 or not all(
            isinstance(each, int | np.integer) and each > 0 for each in self.shape
        ):
            raise InputError(f"shape is {shape}: give [batch, height, width, channels], such as (4, 8, 8, 1)")
        if guidance is not None:
            require_finite(guidance=guidance)
            if not self.denoiser.labels:
                raise InputError("guidance is for a model with classes: leave it out")
        if not isinstance(schedule, Schedule | None):
            raise InputError(f"schedule is {schedule!r:.60}: give a ditto.Schedule")
        self.steps, self._guidance = steps_of(schedule or Schedule(), steps, method, eta), guidance
        self._checked = checked
        self._step = _step(self.denoiser, guidance, clip)
        self._fixed = {"params": params, "times": self.steps.times, "numbers": self.steps.numbers}
        options: dict[str, Any] = {"config": config, "checked": checked, "check": False}
        self._secure = secure(
            self._step,
            public=("times", "numbers", "index"),
            owner={"params": OWNER},
            calibration=calibration,
            guard=not checked,  # no other check sees the values of pictures in shares
            **options,
        ).hold(**self._fixed)
        # The first picture gets the format that every step returns, so that one compilation serves all steps.
        form = str(load_config(config).default_format)
        rule = {"op": "input", "path": ".*", "format": form}
        self._share = secure(lambda inputs: inputs, **options | {"config": {"default": form, "rule": [rule]}})

    def stream(self, labels: Any = None, seed: int | None = None) -> Iterator[Step]:
        """Yield every step as it is done. The last one has the pictures.

        labels: the class of every picture, [batch] integers. They stay secret.
        seed: seed of the noise that the client draws. None lets the system supply one. The noise is secret,
            and no share depends on the seed.
        Bad input raises an InputError at the call, before anything runs.
        """
        require_seed(seed)
        return self._steps(self._inputs(labels), np.random.default_rng(seed))

    def _steps(self, labels: dict[str, Any], rng: np.random.Generator) -> Iterator[Step]:
        inputs = {"x": self._noise(rng), **labels}
        state = self._share.run(inputs, keep=tuple(inputs)).outputs
        last = len(self.steps.times) - 1
        for number, at in enumerate(self.steps.times):
            started = time.perf_counter()
            try:
                result = self._secure.run(
                    index=np.int32(number),
                    **state,
                    **self._fresh(rng),
                    keep=() if number == last else ("x",),
                )
            except RangeError as error:
                more = "" if self._checked else ". A sampler with checked=True names the value"
                raise RangeError(f"step {number + 1} of {last + 1}, timestep {at}: {error}{more}") from None
            before, state["x"] = state["x"], result.outputs["x"]
            before.release()
            seconds = time.perf_counter() - started
            pictures = np.asarray(state["x"]) if number == last else None
            yield Step(number + 1, int(at), result.report, seconds, pictures)

    def sample(
        self, labels: Any = None, seed: int | None = None, progress: Progress | None = None
    ) -> Samples:
        """Run `stream` to its end. progress(done, steps) is called after every step."""
        done = []
        for each in self.stream(labels, seed):
            done.append(each)
            if progress is not None:
                progress(each.number, len(self.steps.times))
        assert done[-1].pictures is not None
        return Samples(done[-1].pictures, tuple(done))

    def plaintext(self, labels: Any = None, seed: int | None = None) -> NDArray[np.float32]:
        """Return the pictures that floating point draws from the same noise."""
        (*_, (_, after)) = self._states(labels, seed)
        return after

    def calibrate(self, labels: Any = None, seed: int | None = None) -> Calibration:
        """Record the values of every step of one plaintext batch, for `calibration`."""
        return self._secure.calibrate([arguments for arguments, _ in self._states(labels, seed)])

    def _states(self, labels: Any, seed: int | None) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
        """Yield the arguments of each step in plaintext, and the pictures after it."""
        require_seed(seed)
        rng, given = np.random.default_rng(seed), self._inputs(labels)
        x, step = self._noise(rng), jax.jit(self._step)
        for number in range(len(self.steps.times)):
            arguments = {"index": np.int32(number), "x": x, **given, **self._fresh(rng)}
            x = np.asarray(step(**self._fixed, **arguments)["x"])
            yield arguments, x

    def _noise(self, rng: np.random.Generator) -> NDArray[np.float32]:
        return rng.standard_normal(self.shape).astype(np.float32)

    def _fresh(self, rng: np.random.Generator) -> dict[str, Any]:
        """Return the fresh noise of one step, if the method adds any."""
        return {"noise": self._noise(rng)} if self.steps.noisy else {}

    def _inputs(self, labels: Any) -> dict[str, Any]:
        """Return one-hot labels as an argument of a step. Raises InputError for labels that do not fit."""
        count, batch = self.denoiser.labels, self.shape[0]
        if not count:
            if labels is not None:
                raise InputError("the model has no classes: leave labels out")
            return {}
        if labels is None:
            labels = np.full(batch, count - 1)
        ids = np.asarray(labels)
        if ids.shape != (batch,) or not np.issubdtype(ids.dtype, np.integer):
            raise InputError(f"labels are {batch} integers, one for each picture, not {ids.dtype}{ids.shape}")
        if ids.min() < 0 or ids.max() >= count:
            raise InputError(f"labels from {ids.min()} to {ids.max()}, but there are 0 to {count - 2}")
        if self._guidance is not None:
            ids = np.concatenate([ids, np.full(batch, count - 1)])
        return {"labels": np.eye(count, dtype=np.float32)[ids]}


def sample(
    unet: Any,
    params: Any,
    shape: Sequence[int],
    schedule: Schedule | None = None,
    *,
    steps: int = 50,
    method: str = "ddim",
    eta: float = 0.0,
    guidance: float | None = None,
    labels: Any = None,
    clip: bool = True,
    seed: int | None = None,
    config: ConfigSource = DEFAULT,
    calibration: Calibration | str | Path | None = None,
    checked: bool = False,
    progress: Progress | None = None,
) -> Samples:
    """Sample a batch of pictures [batch, height, width, channels] under MPC.

    labels, seed, progress: as in `Sampler.sample`. The other options are those of `Sampler`, which serves
    many batches with one compilation and one sharing of the weights.
    """
    sampler = Sampler(
        unet,
        params,
        shape,
        schedule,
        steps=steps,
        method=method,
        eta=eta,
        guidance=guidance,
        clip=clip,
        config=config,
        calibration=calibration,
        checked=checked,
    )
    return sampler.sample(labels, seed, progress)


def _step(denoiser: Denoiser, guidance: float | None, clip: bool) -> Callable[..., Any]:
    """Return the program of one step. `index` says which one it is."""

    def step(
        params: Any, times: Any, numbers: Any, index: Any, x: Any, labels: Any = None, noise: Any = None
    ) -> Any:
        tables = denoiser.conditions(params, times)
        condition = jax.tree_util.tree_map(lambda each: jnp.take(each, index, axis=0, mode="clip"), tables)
        from_x, from_noise, to_picture, to_noise, to_x, fresh = jnp.take(numbers, index, axis=0, mode="clip")
        both = x if guidance is None else jnp.concatenate([x, x])
        predicted = denoiser.predict(params, both, condition, labels)
        if jnp.shape(predicted) != both.shape:
            raise InputError(
                f"the model predicts noise of shape {jnp.shape(predicted)} in pictures of shape "
                f"{both.shape}: both have to be equal"
            )
        if guidance is not None:
            wanted, anything = jnp.split(predicted, 2)
            predicted = anything + guidance * (wanted - anything)
        with jax.named_scope("sampler"):
            picture = from_x * x - from_noise * predicted
            picture = jnp.clip(picture, -1.0, 1.0) if clip else picture
            after = to_picture * picture + to_noise * predicted + to_x * x
            return {"x": after if noise is None else after + fresh * noise}

    return step
