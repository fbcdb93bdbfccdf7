"""Define `ditto calibrate`, `search`, `shorten` and `inspect`, which choose and show formats."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from ditto_spu.calibration.calibration import load_calibration
from ditto_spu.cli.options import (
    Json,
    Model,
    Network,
    OneConfig,
    OutFile,
    Weights,
    load_program,
    secure_model,
)
from ditto_spu.cli.output import print_result, progress_console
from ditto_spu.errors import InputError
from ditto_spu.rules.load import load_config


class Stage(str, Enum):
    """The stages that `ditto inspect` can show."""

    traced = "traced"
    fused = "fused"
    owners = "owners"
    config = "config"
    formats = "formats"
    plan = "plan"
    ranges = "ranges"


def calibrate(
    model: Model,
    out: OutFile,
    calls: Annotated[
        int, typer.Option(min=1, help="Use at most this many of the model's example calls.")
    ] = 32,
    weights: Weights = None,
    generate: Annotated[
        bool,
        typer.Option(
            "--generate",
            help="Calibrate the two programs of `ditto generate`, on docstrings of Python's standard "
            "library.",
        ),
    ] = False,
    prefix: Annotated[
        str | None, typer.Option(help="With --generate: the --prefix of `ditto generate`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Record the ranges of a model's values on example calls, for `secure(calibration=...)`."""
    if generate:
        from ditto_spu.cli.decoders import calibrated

        calibration = calibrated(model, weights, prefix, calls)
        calibration.save(out)
        print_result(calibration, as_json)
        return
    if prefix is not None:
        raise InputError("--prefix stands before generated texts: add --generate")
    program, function = load_program(model, "ditto", weights)
    with progress_console().status(f"{model}: up to {calls} calls in plaintext"):
        calibration = function.calibrate(program.calls[:calls])
    calibration.save(out)
    print_result(calibration, as_json)


def search(
    model: Model,
    out: OutFile,
    max_error: Annotated[
        float | None, typer.Option(help="Limit of the largest absolute error of an output.")
    ] = None,
    mean_error: Annotated[
        float | None, typer.Option(help="Limit of the mean absolute error of the outputs.")
    ] = None,
    cosine: Annotated[
        float | None, typer.Option(help="Limit of the least cosine between outputs and plaintext.")
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help="Network for which the cost is predicted: lan, wan, loopback or "
            '"bandwidth=100Mbps,rtt=20ms".'
        ),
    ] = "LAN",
    config: OneConfig = "ditto",
    calls: Annotated[
        int, typer.Option(min=1, help="Use at most this many of the model's example calls.")
    ] = 4,
    seconds: Annotated[float, typer.Option(help="Try no further formats after this many seconds.")] = 200.0,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to write, which shows cost against error.")
    ] = None,
    compared: Annotated[
        Path | None,
        typer.Option(
            help="File with the output of `ditto compare MODEL --json`. PUMA then joins the table and the "
            "picture."
        ),
    ] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Search for the cheapest formats whose error stays within limits.

    If no limit is given, the error of the configuration is the limit.
    """
    rows = None if compared is None else _rows_of(compared)
    program, function = load_program(model, config, weights)
    from ditto_spu.search.search import ErrorBudget
    from ditto_spu.search.search import search as find

    limited = any(each is not None for each in (max_error, mean_error, cosine))
    budget = ErrorBudget(max=max_error, mean=mean_error, cosine=cosine) if limited else None
    with progress_console().status(f"{model}") as status:
        found = find(
            function,
            program.calls[:calls],
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
    print_result(found, as_json)


def shorten(
    config: Annotated[
        str,
        typer.Argument(help="A name from `ditto configs`, or a path ending with .toml.", show_default=False),
    ],
    bits: Annotated[
        int, typer.Option(min=0, help="How many fraction bits to take from every format.", show_default=False)
    ],
    out: OutFile,
) -> None:
    """Write a configuration with fewer fraction bits in every format, for `ditto distill` to train with."""
    from ditto_spu.rules.shorten import save_config, shortened

    save_config(shortened(load_config(config), bits), out)


def inspect(
    model: Model,
    stage: Annotated[
        Stage,
        typer.Option(
            help="Stage of the compiler to show. `ranges` lists the ranges that protocols rely on, `config` "
            "the configuration as TOML, with the ranges of a calibration."
        ),
    ] = Stage.plan,
    config: OneConfig = "ditto",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="File that `ditto calibrate` wrote. The program is compiled with it, and ranges show their "
            "headroom."
        ),
    ] = None,
    network: Network = None,
    weights: Weights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranges as JSON.")] = False,
) -> None:
    """Print a model's StableHLO after a stage of the compiler, its plan, or the ranges it relies on."""
    known = None if calibration is None else load_calibration(calibration)
    function, args = secure_model(model, config, weights, network=network)
    if stage is Stage.ranges:  # shown also where the calibration refuses them
        print_result(function.lower(*args).ranges(known), as_json)
        return
    calibrated = function if known is None else function.with_calibration(known)
    typer.echo(calibrated.lower(*args).as_text(stage.value))


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
