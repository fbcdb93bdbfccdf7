"""Define `ditto generate`: text from a named decoder, with the cost of every token."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ditto_spu.cli.options import Json, OneConfig
from ditto_spu.cli.output import print_result, progress_console
from ditto_spu.errors import InputError
from ditto_spu.models import MODELS, named_model
from ditto_spu.rules.load import load_config


def generate(
    model: Annotated[str, typer.Argument(help="A decoder from `ditto models`.", show_default=False)],
    steps: Annotated[int, typer.Option(help="Number of tokens to generate.")] = 8,
    prompt: Annotated[
        str | None, typer.Option(help="Token ids, such as '3,14,15'. If left out, the model's own prompt.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Room of the cache, in tokens. If left out, that of prompt and steps together."),
    ] = None,
    next_token: Annotated[
        str,
        typer.Option(
            help="'client': the client sees the logits and chooses the token. "
            "'secret': the likeliest token is chosen in MPC."
        ),
    ] = "client",
    top_k: Annotated[int, typer.Option(help="Draw from this many likeliest tokens; 1 is greedy.")] = 1,
    temperature: Annotated[float, typer.Option(help="Temperature of this draw.")] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the client's draw. No share depends on it.")
    ] = None,
    stop: Annotated[str, typer.Option(help="Token ids that end the text, such as '50256'.")] = "",
    config: OneConfig = "auto",
    as_json: Json = False,
) -> None:
    """Generate tokens under MPC: the prompt runs once, then each token is a step over a cache in shares."""
    named, loaded = named_model(model), load_config(config)
    if named.text is None:
        known = ", ".join(name for name, each in MODELS.items() if each.text is not None)
        raise InputError(f"'{model}' generates no text: choose one of {known}")
    ends = _ids(stop, "--stop") if stop else []
    ids = None if prompt is None else _ids(prompt, "--prompt")
    from ditto_spu.generation.generator import (  # imports jax, for which `ditto models` need not wait
        Generation,
        Generator,
    )
    from ditto_spu.generation.sampling import Sampling

    sampling, text = Sampling(top_k, temperature, seed), named.text()
    start = np.atleast_2d(text.prompt if ids is None else ids)
    room = length or start.shape[1] + steps
    generator = Generator(text.decoder, text.params, length=room, next_token=next_token, config=loaded)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tokens = []
    with Progress(*columns, console=progress_console()) as progress:
        task = progress.add_task(f"{model}: prompt", total=steps)
        for token in generator.stream(start, steps, sampling, ends):
            tokens.append(token)
            progress.update(task, advance=1, description=f"{model}: token {token.ids[0]}")
    generation = Generation.of(start, tokens)
    if as_json:
        print_result({"ids": generation.ids.tolist(), "tokens": generation.as_dicts()}, True)
        return
    print_result(generation, False)
    for row in generation.ids:
        print_result(" ".join(map(str, row)), False)


def _ids(text: str, option: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        raise InputError(f"{option} '{text}' is no list of token ids: write such as 3,14,15") from None
