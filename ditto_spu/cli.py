"""The command `ditto`: run, compare and inspect the named models."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from ditto_spu.calibration import load_calibration
from ditto_spu.cli_distill import distill, evaluate, finetune
from ditto_spu.cli_generate import generate
from ditto_spu.cluster.commands import cluster_app, party, run_on_cluster
from ditto_spu.cluster.measured import measure
from ditto_spu.config import configurations, load_config
from ditto_spu.errors import DittoError, InputError
from ditto_spu.material import load as load_material
from ditto_spu.models import MODELS, NamedModel, Program, named_model
from ditto_spu.network.model import parse_network


class _Commands(TyperGroup):
    """A DittoError is the user's to mend: its text, exit code 2, and no traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DittoError as error:
            print(f"ditto: {error}", file=sys.stderr)
            raise typer.Exit(2) from None


class Stage(str, Enum):
    """What `ditto inspect` can show."""

    traced = "traced"
    fused = "fused"
    owners = "owners"
    formats = "formats"
    plan = "plan"
    ranges = "ranges"


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Secure JAX/Flax inference among three parties, simulated or real.",
)
app.add_typer(cluster_app, name="cluster")
app.command()(party)
for _command in (finetune, distill, evaluate, generate):
    app.command()(_command)

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


@app.command()
def models(
    cost: Annotated[
        list[str] | None,
        typer.Option(help="Compile this model and print what a run would cost; may be given several times."),
    ] = None,
    config: OneConfig = "ditto",
    as_json: Json = False,
) -> None:
    """List the named models, or with --cost what some of them would cost."""
    if cost:
        load_config(config)
        _print_rows([_cost(named_model(name), config) for name in cost], as_json)
        return
    rows = [
        {
            "name": model.name,
            "parameters": model.parameters
            if as_json
            else f"{model.parameters:,}"
            if model.parameters
            else "",
            "description": model.description,
            "source": model.source,
        }
        for model in MODELS.values()
    ]
    _print_rows(rows, as_json)


def _cost(model: NamedModel, config: str) -> dict[str, Any]:
    """What the plan of a model costs by the kernels' cost functions; the compiler needs shapes alone."""
    from ditto_spu.api import secure
    from ditto_spu.report import LAN, WAN, predicted_seconds

    with _console().status(f"{model.name}: compiling"):
        program = model.shapes()
        lowered = secure(program.fn, config=config, public=program.public).lower(*program.args)
        found = lowered.cost_analysis()
    on_spu = sum(row.kind == "spu" for row in found.rows)
    sent = max(found.bytes_sent_per_party)
    seconds = [
        None
        if found.rounds is None
        else round(predicted_seconds(network, 0.0, found.bytes_sent_per_party, found.rounds), 3)
        for network in (LAN, WAN)
    ]
    return {
        "name": model.name,
        "parameters": model.parameters,
        "MB of the busiest party": round(sent / 1e6, 3),
        "rounds": found.rounds,
        "steps": len(found.rows),
        "steps on SPU, not counted": on_spu,
        "LAN s, messages alone": seconds[0],
        "WAN s, messages alone": seconds[1],
    }


@app.command()
def configs(as_json: Json = False) -> None:
    """List the precision configurations that come with the package."""
    loaded = [load_config(name) for name in configurations()]
    rows = [
        {
            "name": config.name,
            "default": str(config.default_format),
            "rules": len(config.rules),
            "description": config.description,
        }
        for config in loaded
    ]
    _print_rows(rows, as_json)


@app.command()
def run(
    model: Model,
    config: OneConfig = "ditto",
    checked: Annotated[
        bool, typer.Option("--checked", help="Verify every declared range while running.")
    ] = False,
    masked: Masked = False,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Deal first, then run: times and bytes are told apart.")
    ] = False,
    material: Annotated[
        Path | None, typer.Option(help="A folder of `ditto precompute`, which this run spends.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="A file of `ditto calibrate`: supplies ranges, and is held against all in use."),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="A cluster file: run at its parties, not in simulation.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="With --cluster: which of its clients this is, if there are several.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Run between three processes of this machine and emulate what lies between hosts: lan, wan, "
            'loopback or "bandwidth=100Mbps,rtt=20ms"; prints the predicted time too.'
        ),
    ] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Run a model under MPC and print what each step cost."""
    if network is not None:
        if checked or ahead or masked or material is not None or cluster is not None:
            raise InputError(
                "--network starts parties of its own: leave out --checked, --ahead, --masked, --material and "
                "--cluster"
            )
        emulated = parse_network(network)
        program, function = _program(model, config, weights)
        with _console().status(f"{model}, configuration {config}: three processes, {emulated.name}"):
            measured = measure(function.hold(**program.held), program.inputs, emulated)
        _print(measured, as_json)
        return
    if cluster is not None and (checked or material is not None):
        raise InputError("--checked and --material are for simulation: leave them out with --cluster")
    stored = None if material is None else load_material(material)
    function, args = _secure(model, config, weights, checked=checked, masked=masked, calibration=calibration)
    if cluster is not None:
        with _console().status(f"{model}, configuration {config}, at the parties of {cluster}"):
            report = run_on_cluster(function, args, cluster, client, ahead)
        _print(report, as_json)
        return
    with _console().status(f"{model}, configuration {config}"):
        if ahead and stored is None:
            stored = function.precompute(*args)
        result = function.run(*args, material=stored)
    _print(result.report, as_json)


@app.command()
def precompute(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="A new folder for the material.", show_default=False)],
    config: OneConfig = "ditto",
    masked: Masked = False,
    weights: Weights = None,
) -> None:
    """Make the offline part of one request ahead, for `ditto run --material FOLDER` to spend."""
    function, args = _secure(model, config, weights, masked=masked)
    with _console().status(f"{model}, configuration {config}: dealing"):
        material = function.precompute(*args, folder=folder)
    typer.echo(f"{folder}: {material.bytes / 1e6:,.1f} MB dealt in {material.seconds:.2f} s")


@app.command()
def compare(
    model: Model,
    config: Configs = ["ditto"],  # noqa: B006  typer copies it
    puma: Annotated[bool, typer.Option(help="Also run PUMA on stock SPU.")] = True,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Run a model in plaintext, in each configuration and as PUMA on stock SPU; print error and cost."""
    for name in config:
        load_config(name)  # a mistyped second name is found before the first has run for a minute
    function, args = _secure(model, config[0], weights)
    with _console().status(f"{model}: plaintext, {', '.join(config)}{', puma' if puma else ''}"):
        comparison = function.compare(*args, configs=tuple(config), puma=puma)
    _print(comparison, as_json)


@app.command()
def calibrate(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write.", show_default=False)],
    calls: Annotated[int, typer.Option(help="At most so many of the model's example calls.")] = 32,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Record what values a model holds on example calls, for `secure(calibration=...)`."""
    program, function = _program(model, "ditto", weights)
    with _console().status(f"{model}: up to {calls} calls in plaintext"):
        calibration = function.calibrate(program.calls[: max(1, calls)])
    calibration.save(out)
    _print(calibration, as_json)


@app.command()
def search(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="The .toml file to write.", show_default=False)],
    max_error: Annotated[float | None, typer.Option(help="Largest absolute error of an output.")] = None,
    mean_error: Annotated[float | None, typer.Option(help="Mean absolute error.")] = None,
    cosine: Annotated[float | None, typer.Option(help="Least cosine with plaintext.")] = None,
    network: Annotated[
        str,
        typer.Option(
            help='What the cost is predicted for: lan, wan, loopback or "bandwidth=100Mbps,rtt=20ms".'
        ),
    ] = "LAN",
    config: OneConfig = "ditto",
    calls: Annotated[int, typer.Option(help="At most so many of the model's example calls.")] = 4,
    seconds: Annotated[float, typer.Option(help="Try nothing more after so long.")] = 200.0,
    plot: Annotated[Path | None, typer.Option(help="A picture of cost against error.")] = None,
    compared: Annotated[
        Path | None,
        typer.Option(help="What `ditto compare MODEL --json` printed: PUMA joins the table and the picture."),
    ] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Search for the cheapest formats within an error; without a limit, within that of the configuration."""
    rows = None if compared is None else _rows_of(compared)
    program, function = _program(model, config, weights)
    from ditto_spu.search import ErrorBudget
    from ditto_spu.search import search as find

    limited = any(each is not None for each in (max_error, mean_error, cosine))
    budget = ErrorBudget(max=max_error, mean=mean_error, cosine=cosine) if limited else None
    with _console().status(f"{model}") as status:
        found = find(
            function,
            program.calls[: max(1, calls)],
            budget,
            network=network,
            start=config,
            seconds=seconds,
            progress=lambda text: status.update(f"{model}: {text}"),
        )
    if rows is not None:
        found = found.with_measured(rows)
    found.save(out)
    if plot is not None:
        found.plot(plot)
    _print(found, as_json)


@app.command()
def shorten(
    config: Annotated[
        str, typer.Argument(help="A name from `ditto configs`, or a path.", show_default=False)
    ],
    bits: Annotated[int, typer.Option(min=0, help="Fraction bits less in every format.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The .toml file to write.", show_default=False)],
) -> None:
    """Write a configuration with fewer fraction bits everywhere, for `ditto distill` to train through."""
    from ditto_spu.shortened import save_config, shortened

    save_config(shortened(load_config(config), bits), out)


@app.command()
def inspect(
    model: Model,
    stage: Annotated[
        Stage, typer.Option(help="How far the passes go, or the ranges relied on.")
    ] = Stage.plan,
    config: OneConfig = "ditto",
    calibration: Annotated[
        Path | None, typer.Option(help="A file of `ditto calibrate`: ranges show their headroom.")
    ] = None,
    weights: Weights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print ranges as JSON.")] = False,
) -> None:
    """Print a model's StableHLO after a stage of the compiler, its plan, or the ranges relied on."""
    known = None if calibration is None else load_calibration(calibration)
    function, args = _secure(model, config, weights)
    lowered = function.lower(*args)
    if stage is Stage.ranges:
        _print(lowered.ranges(known), as_json)
    else:
        typer.echo(lowered.as_text(stage.value))


def _secure(model: str, config: str, weights: Path | None, **options: Any) -> tuple[Any, tuple[Any, ...]]:
    """The secure function of a named model, and its example arguments. Names are checked first of all."""
    program, function = _program(model, config, weights, **options)
    return function, program.args


def _program(model: str, config: str, weights: Path | None, **options: Any) -> tuple[Program, Any]:
    named, loaded = named_model(model), load_config(config)
    from ditto_spu.api import secure  # with jax, which `ditto models` need not wait for

    program: Program = named.program(weights)
    return program, secure(program.fn, config=loaded, public=program.public, owner=program.owner, **options)


def _rows_of(file: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"'{file}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"'{file}' is not what `ditto compare MODEL --json` prints: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(
            f"'{file}' is not what `ditto compare MODEL --json` prints: it holds no list of rows"
        )
    return rows


def _console() -> Console:
    """Progress goes to the terminal, never into a pipe beside the result."""
    return Console(stderr=True)


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    _print(table, as_json, rows)


def _print(shown: Any, as_json: bool, data: Any = None) -> None:
    """A table for people, or its data as JSON."""
    if as_json:
        typer.echo(json.dumps(_plain(shown if data is None else data), indent=2))
    else:
        # A pipe has no width: give it enough, or rich would cut the columns to 80 characters.
        Console(width=None if sys.stdout.isatty() else 200).print(shown)


def _plain(value: Any) -> Any:
    if hasattr(value, "as_dicts"):
        return value.as_dicts()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


if __name__ == "__main__":
    app()
