"""Define arguments that several commands share, and load the model that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ditto_spu.errors import InputError
from ditto_spu.models import Program, named_model
from ditto_spu.rules.load import load_config

Model = Annotated[
    str,
    typer.Argument(
        help="A name from `ditto models`, a checkpoint (folder or .gguf file), or a folder that "
        "`ditto finetune` or `ditto distill` wrote.",
        show_default=False,
    ),
]
OneConfig = Annotated[
    str, typer.Option("--config", help="A name from `ditto configs`, or a path ending with .toml.")
]
Configs = Annotated[
    list[str],
    typer.Option(
        "--config",
        help="A name from `ditto configs`, or a path ending with .toml. May be given several times.",
    ),
]
Masked = Annotated[
    bool,
    typer.Option(
        "--masked",
        help="Use masked shares: one party does its work in the offline phase, and products take one round.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint: a folder with config.json and weights, or a .gguf file. Its weights and sizes "
        "replace the random ones."
    ),
]


def in_a_folder(out: Path | None) -> Path | None:
    """Raise InputError for a file to be written into a folder that does not exist."""
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError(f"--out: there is no folder '{out.parent}'")
    return out


OutFile = Annotated[
    Path,
    typer.Option(
        "--out", help="File to write, in a folder that exists.", show_default=False, callback=in_a_folder
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        help='Make the plan for this network between the parties: lan, wan or "bandwidth=100Mbps,rtt=20ms".'
    ),
]
NextToken = Annotated[
    str,
    typer.Option(
        help="'client': the client sees the logits and chooses the token. "
        "'secret': the likeliest token is chosen in MPC."
    ),
]
TopK = Annotated[int, typer.Option(help="Draw from this many likeliest tokens; 1 is greedy.")]
TopP = Annotated[float, typer.Option(help="Draw from the likeliest tokens whose probabilities sum to this.")]
Temperature = Annotated[float, typer.Option(help="Temperature of this draw.")]
DrawSeed = Annotated[int | None, typer.Option(help="Seed of the client's draw. No share depends on it.")]
Guesses = Annotated[
    int, typer.Option(help="Guess up to this many tokens from the text so far, for one pass to verify.")
]
Ranges = Annotated[
    Path | None, typer.Option(help="File that `ditto calibrate` wrote for the model's ranges.")
]
Client = Annotated[
    str | None,
    typer.Option(help="With --cluster: name of the client that this is, if the cluster has several."),
]
Conversation = Annotated[
    int | None,
    typer.Option(help="Most tokens of a conversation. If left out, 2048 or the model's limit."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def secure_model(
    model: str, config: str, weights: Path | None, **options: Any
) -> tuple[Any, tuple[Any, ...]]:
    """Return the secure function of a named model, and its example arguments.

    Names are checked before anything is built.
    """
    program, function = load_program(model, config, weights, **options)
    return function, program.args


def load_program(model: str, config: str, weights: Path | None, **options: Any) -> tuple[Program, Any]:
    """Return a named model and its secure function."""
    named, loaded = named_model(model), load_config(config)
    from ditto_spu.api import secure  # imports jax, for which `ditto models` need not wait

    program: Program = named.program(weights)
    return program, secure(program.fn, config=loaded, **program.options, **options)


def room_for(conversation: int | None, positions: int) -> int:
    """Return the most tokens of a conversation with a model of so many positions."""
    return min(2048, positions) if conversation is None else conversation


def whole_numbers(text: str, option: str, what: str, such: str) -> list[int]:
    """Read numbers separated by commas. Raises InputError for other text, with `such` as an example."""
    try:
        return [int(each) for each in text.split(",") if each]
    except ValueError:
        raise InputError(f"{option} '{text}' is no list of {what}: write such as {such}") from None
