"""Define `ditto generate`: text from a decoder, with the cost of every token."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ditto_spu.cli.options import (
    Client,
    DrawSeed,
    Guesses,
    Json,
    NextToken,
    OneConfig,
    Ranges,
    Temperature,
    TopK,
    TopP,
    Weights,
    whole_numbers,
)
from ditto_spu.cli.output import print_result, progress_console
from ditto_spu.cluster.client.client import connect
from ditto_spu.errors import InputError
from ditto_spu.models import MODELS, Text, named_model
from ditto_spu.rules.load import load_config


def generate(
    model: Annotated[
        str,
        typer.Argument(help="A decoder from `ditto models`, or a checkpoint of one.", show_default=False),
    ],
    weights: Weights = None,
    steps: Annotated[int, typer.Option(help="Number of tokens to generate.")] = 8,
    prompt: Annotated[
        str | None,
        typer.Option(help="Text to answer, in the checkpoint's chat template if it has one."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Continue the prompt as it stands, without a chat template.")
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="Public text before the prompt, such as a system prompt, or ids if --prompt is left out. "
            "Its cache is computed in plaintext, once."
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            help="Token ids in the place of --prompt, such as '3,14,15'. If both are left out, an example."
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Room of the cache, in tokens. If left out, that of prompt and steps together."),
    ] = None,
    next_token: NextToken = "client",
    top_k: TopK = 1,
    top_p: TopP = 1.0,
    temperature: Temperature = 1.0,
    seed: DrawSeed = None,
    drafts: Guesses = 0,
    stop: Annotated[
        str | None,
        typer.Option(
            help="Token ids that end the text, such as '50256'. If left out, those of the checkpoint."
        ),
    ] = None,
    calibration: Ranges = None,
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster file. The text is then generated at its parties.")
    ] = None,
    client: Client = None,
    held: Annotated[
        str | None,
        typer.Option(
            help="With --cluster: name of weights that their owner has uploaded, such as 'owner/model'. "
            "Otherwise this client uploads its own for as long as the command runs."
        ),
    ] = None,
    config: OneConfig = "auto",
    as_json: Json = False,
) -> None:
    """Generate text under MPC: the prompt runs once, then each token is a step over a cache in shares."""
    named, loaded = named_model(model), load_config(config)
    if named.text is None:
        known = ", ".join(name for name, each in MODELS.items() if each.text is not None)
        raise InputError(f"'{model}' generates no text: choose a checkpoint, or one of {known}")
    if prompt is not None and ids is not None:
        raise InputError("--prompt and --ids both say what to continue: leave one out")
    if cluster is None and (client is not None or held is not None):
        raise InputError("--client and --held are for --cluster: give the cluster file, too")
    ends = None if stop is None else _ids(stop, "--stop")
    given = None if ids is None else _ids(ids, "--ids")
    from ditto_spu.generation.drafts import Drafts
    from ditto_spu.generation.generated import Generation
    from ditto_spu.generation.generator import (
        Generator,  # imports jax, for which `ditto models` need not wait
    )
    from ditto_spu.generation.sampling import Sampling

    sampling, text = Sampling(top_k, temperature, seed, top_p), named.text(weights)
    before, start = _start(text, prefix, prompt, given, plain)
    if ends is None:
        ends = [] if text.tokenizer is None else sorted(text.tokenizer.stop)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tokens = []
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=progress_console()))
        generator = Generator(
            text.decoder,
            text.params if held is None else _shapes(text.params),
            length=length or len(before or ()) + start.shape[1] + steps,
            prefix=before,
            next_token=next_token,
            cluster=None if cluster is None else stack.enter_context(connect(cluster, client)),
            weights=held,
            config=loaded,
            calibration=calibration,
        )
        task = progress.add_task(f"{model}: prompt", total=steps)
        for token in generator.stream(start, steps, sampling, ends, Drafts(drafts) if drafts else None):
            tokens.append(token)
            progress.update(task, advance=1, description=f"{model}: token {token.ids[0]}")
    generation = Generation.of(start, tokens)
    texts = _texts(text, generation.ids[:, start.shape[1] :])
    if as_json:
        answer = {"ids": generation.ids.tolist(), "texts": texts, "tokens": generation.as_dicts()}
        print_result(answer, True)
        return
    print_result(generation, False)
    for line in texts or [" ".join(map(str, row)) for row in generation.ids]:
        typer.echo(line)


def _shapes(params: Any) -> Any:
    """Return the shapes of parameters that parties have already."""
    import jax

    return jax.tree_util.tree_map(lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype), params)


def _start(
    text: Text, prefix: str | None, prompt: str | None, ids: list[int] | None, plain: bool
) -> tuple[list[int] | None, Any]:
    """Return the ids of the prefix, or None, and those of what is to be continued, [1, length]."""
    if prompt is None:
        before = None if prefix is None else _ids(prefix, "--prefix")
        return before, np.atleast_2d(text.prompt if ids is None else ids)
    if text.tokenizer is None:
        raise InputError(
            "there is no tokenizer for --prompt: give a checkpoint with tokenizer.json, or --ids in its place"
        )
    tokenizer = replace(text.tokenizer, template=None) if plain else text.tokenizer
    if prefix is not None:
        before, start = tokenizer.behind(prefix, prompt)
        return before, np.atleast_2d(start)
    start = tokenizer.encode(prompt) if tokenizer.template is None else tokenizer.chat(prompt)
    return None, np.atleast_2d(start)


def _texts(text: Text, ids: Any) -> list[str] | None:
    """Return the generated texts, or None without a tokenizer."""
    return None if text.tokenizer is None else [text.tokenizer.decode(row) for row in ids.tolist()]


def _ids(text: str, option: str) -> list[int]:
    return whole_numbers(text, option, "token ids", "3,14,15")
