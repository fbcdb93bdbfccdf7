"""Define the command `ditto`.

It runs, compares, trains and inspects named models, and it starts a party of a cluster.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ditto_spu.cli.chat import chat
from ditto_spu.cli.distillation import distill, evaluate, finetune
from ditto_spu.cli.formats import calibrate, inspect, search, shorten
from ditto_spu.cli.gateway import gateway
from ditto_spu.cli.generation import generate
from ditto_spu.cli.listing import configs, models
from ditto_spu.cli.pictures import sample
from ditto_spu.cli.running import compare, precompute, run
from ditto_spu.cluster.commands import cluster_app, party
from ditto_spu.errors import DittoError

COMMANDS = (
    *(models, configs, run, generate, chat, gateway, sample, compare, inspect),
    *(precompute, calibrate, search, shorten),
    *(finetune, distill, evaluate, party),
)


class _Commands(TyperGroup):
    """Print a DittoError as one line, without a traceback, and end with exit code 2.

    A DittoError is a mistake that the user can mend.
    """

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
    help="Run JAX and Flax models securely among three parties, simulated or real.",
)
for _command in COMMANDS:
    app.command()(_command)
app.add_typer(cluster_app, name="cluster")
