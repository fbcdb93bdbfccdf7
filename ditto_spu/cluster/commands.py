"""Implements `ditto cluster init`, `ditto party` and `ditto run --cluster`."""

from __future__ import annotations

import logging
import queue
import resource
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ditto_spu.cluster.client.client import connect
from ditto_spu.cluster.net.cluster_file import init_cluster, load_cluster
from ditto_spu.cluster.party.logs import JsonLines
from ditto_spu.cluster.party.metrics import metrics_address
from ditto_spu.cluster.party.server import PartyServer
from ditto_spu.errors import ConfigError

cluster_app = typer.Typer(no_args_is_help=True, help="Three parties as processes: set up a trial.")


@cluster_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder for the cluster file and the keys.")],
    host: Annotated[
        list[str],
        typer.Option(help="host:port of a party; three times, or left out for ports of this machine."),
    ] = [],  # noqa: B006  typer copies it
    client: Annotated[list[str], typer.Option(help="Name of a client; may be given several times.")] = [  # noqa: B006
        "client"
    ],
) -> None:
    """Write a cluster file, certificates and keys. The authority that signs them is not kept."""
    addresses = tuple(host) or tuple(f"127.0.0.1:{port}" for port in (9400, 9401, 9402))
    if len(addresses) != 3:
        raise typer.BadParameter("give --host three times, or not at all")
    try:
        file = init_cluster(folder, addresses, tuple(client))
    except OSError as error:
        raise ConfigError(f"the cluster cannot be written to '{folder}': {error.strerror}") from None
    typer.echo(f"{file} and keys are written. Start each party: ditto party --rank R --cluster {file}")


@cluster_app.callback()
def _group() -> None:
    """Make typer treat `init` as a subcommand although it is the only one."""


def party(
    rank: Annotated[int, typer.Option(min=0, max=2, help="Which party this process is.")],
    cluster: Annotated[Path, typer.Option(help="The cluster file.")],
    grace: Annotated[
        float, typer.Option(help="Seconds that running requests get to end when stopped.")
    ] = 30.0,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="PORT (of the loopback interface) or HOST:PORT for metrics and health.", show_default="off"
        ),
    ] = None,
) -> None:
    """Run one party until SIGINT or SIGTERM. Logs one line of JSON per event, never a value or a share.

    At SIGHUP it reads the cluster file again, for other clients and certificates.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would put shares on a disk
    logger = logging.getLogger("ditto_spu.cluster")
    logger.addHandler(JsonLines(sys.stderr.fileno()))
    logger.setLevel(logging.INFO)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: signals.put(number))
    shown = None if metrics is None else metrics_address(metrics)
    server = PartyServer(load_cluster(cluster), rank, shown)
    server.start()
    while signals.get() == signal.SIGHUP:
        try:
            server.reload(load_cluster(cluster))
        except ConfigError as error:
            logger.error("not reloaded", extra={"facts": {"party": rank, "reason": str(error)}})
    server.stop(grace)


def run_on_cluster(
    function: Any, args: tuple[Any, ...], cluster: Path, client: str | None, ahead: bool = False
) -> Any:
    """Run one request at a cluster's parties and return its report.

    With `ahead` the offline phase is a request of its own, which comes first.
    """
    with connect(cluster, client) as connected:
        material = connected.precompute(function, *args) if ahead else None
        return connected.run(function, *args, material=material).report
