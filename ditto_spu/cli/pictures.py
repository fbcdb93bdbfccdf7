"""Define `ditto sample`: pictures from a diffusion model, as a PNG file or as blocks in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ditto_spu.cli.options import Json, OneConfig, Ranges, in_a_folder, whole_numbers
from ditto_spu.cli.output import print_result, progress_console
from ditto_spu.errors import InputError
from ditto_spu.models import MODELS, named_model
from ditto_spu.rules.load import load_config

_ZOOM = 8


def sample(
    model: Annotated[
        str, typer.Argument(help="A diffusion model from `ditto models`.", show_default=False)
    ] = "unet-digits",
    labels: Annotated[
        str | None,
        typer.Option(help="The class of each picture, such as '3,1,4'. If left out, any class."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Number of pictures. If left out, one for each label, or 1.")
    ] = None,
    steps: Annotated[int, typer.Option(help="How many timesteps are visited.")] = 20,
    method: Annotated[str, typer.Option(help="'ddim' or 'ddpm'.")] = "ddim",
    eta: Annotated[float, typer.Option(help="Fresh noise of DDIM, from 0 to 1.")] = 0.0,
    guidance: Annotated[
        float | None, typer.Option(help="Strength of the label; more than 1 exaggerates the class.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the client's noise. No share depends on it.")
    ] = None,
    calibration: Ranges = None,
    out: Annotated[
        Path | None,
        typer.Option(help="PNG file to write: all pictures in one grid.", callback=in_a_folder),
    ] = None,
    config: OneConfig = "auto",
    as_json: Json = False,
) -> None:
    """Sample pictures under MPC: each step runs over pictures in shares, and the last ones are opened."""
    named, loaded = named_model(model), load_config(config)
    if named.pictures is None:
        known = ", ".join(name for name, each in MODELS.items() if each.pictures is not None)
        raise InputError(f"'{model}' draws no pictures: choose one of {known}")
    classes = None if labels is None else whole_numbers(labels, "--labels", "classes", "3,1,4")
    size = count if count is not None else len(classes or [0])
    from ditto_spu.diffusion.pictures import blocks, save_png
    from ditto_spu.diffusion.sampler import Sampler

    made = named.pictures()
    sampler = Sampler(
        made.denoiser,
        made.params,
        (size, *made.shape),
        made.schedule,
        steps=steps,
        method=method,
        eta=eta,
        guidance=guidance,
        config=loaded,
        calibration=calibration,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console()) as progress:
        task = progress.add_task(f"{model}: first step", total=steps)

        def show(done: int, _: int) -> None:
            time = sampler.steps.times[done - 1]
            progress.update(task, completed=done, description=f"{model}: timestep {time}")

        samples = sampler.sample(classes, seed, show)
    if out is not None:
        save_png(out, samples.pictures, zoom=_ZOOM)
    if as_json:
        print_result({"steps": samples.as_dicts(), "pictures": samples.pictures.tolist()}, True)
        return
    print_result(samples, False)
    typer.echo(blocks(samples.pictures) if out is None else f"wrote {out}")
