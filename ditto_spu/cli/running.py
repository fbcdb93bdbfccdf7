"""Define `ditto run`, `ditto precompute` and `ditto compare`, which run models under MPC."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto_spu.cli.options import (
    Client,
    Configs,
    Json,
    Masked,
    Model,
    OneConfig,
    Weights,
    load_program,
    secure_model,
)
from ditto_spu.cli.output import print_result, progress_console
from ditto_spu.cluster.commands import run_on_cluster
from ditto_spu.cluster.measure import measure
from ditto_spu.errors import InputError
from ditto_spu.network.model import parse_network
from ditto_spu.rules.load import load_config
from ditto_spu.runtime.material import load as load_material


def run(
    model: Model,
    config: OneConfig = "auto",
    checked: Annotated[
        bool, typer.Option("--checked", help="Verify every declared range during the run.")
    ] = False,
    masked: Masked = False,
    ahead: Annotated[
        bool,
        typer.Option(
            "--ahead", help="Run the offline phase first, so that its time and bytes are reported apart."
        ),
    ] = False,
    material: Annotated[
        Path | None, typer.Option(help="Folder that `ditto precompute` wrote. This run spends its material.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="File that `ditto calibrate` wrote. It supplies ranges, and every range in use is checked "
            "against it."
        ),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="Cluster file. The model then runs at its parties, not in simulation.")
    ] = None,
    client: Client = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Make the plan for this network, and run it between three processes of this machine that "
            'it separates: lan, wan, loopback or "bandwidth=100Mbps,rtt=20ms". The predicted time is printed '
            "too."
        ),
    ] = None,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Run a model under MPC and print the cost of each step."""
    if network is not None:
        if checked or ahead or masked or material is not None or cluster is not None:
            raise InputError(
                "--network starts parties of its own: leave out --checked, --ahead, --masked, --material and "
                "--cluster"
            )
        emulated = parse_network(network)
        program, function = load_program(model, config, weights)
        with progress_console().status(f"{model}, configuration {config}: three processes, {emulated.name}"):
            measured = measure(function.hold(**program.held), program.inputs, emulated)
        print_result(measured, as_json)
        return
    if cluster is not None and (checked or material is not None):
        raise InputError("--checked and --material are for simulation: leave them out with --cluster")
    stored = None if material is None else load_material(material)
    function, args = secure_model(
        model, config, weights, checked=checked, masked=masked, calibration=calibration
    )
    if cluster is not None:
        with progress_console().status(f"{model}, configuration {config}, at the parties of {cluster}"):
            report = run_on_cluster(function, args, cluster, client, ahead)
        print_result(report, as_json)
        return
    with progress_console().status(f"{model}, configuration {config}"):
        if ahead and stored is None:
            stored = function.precompute(*args)
        result = function.run(*args, material=stored)
    print_result(result.report, as_json)


def precompute(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="New folder for the material.", show_default=False)],
    config: OneConfig = "auto",
    masked: Masked = False,
    weights: Weights = None,
) -> None:
    """Make the material of one request in an offline phase, for `ditto run --material FOLDER` to spend."""
    function, args = secure_model(model, config, weights, masked=masked)
    with progress_console().status(f"{model}, configuration {config}: dealing"):
        material = function.precompute(*args, folder=folder)
    typer.echo(f"{folder}: {material.bytes / 1e6:,.1f} MB dealt in {material.seconds:.2f} s")


def compare(
    model: Model,
    config: Configs = ["ditto"],  # noqa: B006  typer copies it
    puma: Annotated[bool, typer.Option(help="Also run PUMA on stock SPU.")] = True,
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Run a model in plaintext, in each configuration and as PUMA on stock SPU; print error and cost."""
    for name in config:
        load_config(name)  # finds a mistyped second name before the first has run for a minute
    function, args = secure_model(model, config[0], weights)
    with progress_console().status(f"{model}: plaintext, {', '.join(config)}{', puma' if puma else ''}"):
        comparison = function.compare(*args, configs=tuple(config), puma=puma)
    print_result(comparison, as_json)
