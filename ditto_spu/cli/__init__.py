"""The command `ditto`: run, compare, train and inspect named models, and be a party of a cluster."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ditto_spu.cli.distillation import distill, evaluate, finetune
from ditto_spu.cli.formats import calibrate, inspect, search, shorten
from ditto_spu.cli.generation import generate
from ditto_spu.cli.listing import configs, models
from ditto_spu.cli.running import compare, precompute, run
from ditto_spu.cluster.commands import cluster_app, party
from ditto_spu.errors import DittoError

COMMANDS = (
    *(models, configs, run, generate, compare, inspect),
    *(precompute, calibrate, search, shorten),
    *(finetune, distill, evaluate, party),
)


class _Commands(TyperGroup):
    """A DittoError is the user's to mend: its text, exit code 2, and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DittoError as error:
            print(f"ditto: {error}", file=sys.stderr)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Secure JAX/Flax inference among three parties, simulated or real.",
)
for _command in COMMANDS:
    app.command()(_command)
app.add_typer(cluster_app, name="cluster")
