"""Arguments that several commands share, and the model that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ditto_spu.models import Program, named_model
from ditto_spu.rules.load import load_config

Model = Annotated[
    str,
    typer.Argument(help="A name from `ditto models`, or a folder of `ditto distill`.", show_default=False),
]
OneConfig = Annotated[
    str, typer.Option("--config", help="A name from `ditto configs`, or a path ending with .toml.")
]
Configs = Annotated[list[str], typer.Option("--config", help="As for run; may be given several times.")]
Masked = Annotated[
    bool, typer.Option("--masked", help="Masked shares: one party works ahead, products take one round.")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="A folder that save_pretrained wrote: its weights and sizes instead of random ones."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def secure_model(
    model: str, config: str, weights: Path | None, **options: Any
) -> tuple[Any, tuple[Any, ...]]:
    """The secure function of a named model, and its example arguments. Names are checked first of all."""
    program, function = load_program(model, config, weights, **options)
    return function, program.args


def load_program(model: str, config: str, weights: Path | None, **options: Any) -> tuple[Program, Any]:
    """A named model and its secure function."""
    named, loaded = named_model(model), load_config(config)
    from ditto_spu.api import secure  # with jax, which `ditto models` need not wait for

    program: Program = named.program(weights)
    return program, secure(program.fn, config=loaded, **program.options, **options)
