"""Runs the relay in a process of its own.

There it shares no interpreter lock with the processes that it connects.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple

from ditto_spu.errors import PartyError
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.network.relay import Route

HOSTS = ("party0", "party1", "party2")


@contextlib.contextmanager
def emulated(
    network: Network, addresses: Sequence[str], clients: Sequence[str] = ()
) -> Iterator[dict[str, list[str]]]:
    """Start a relay for the network, and return where each host reaches the parties.

    The result maps each host's name to three addresses, by rank. A party has its own address for itself, and
    every host has entries of the relay for the others. The relay ends with the context.

    network: is emulated between all hosts. On LOOPBACK there is no relay.
    addresses: host:port at which each party listens, in the order of ranks.
    clients: the names of the hosts that are no parties.
    """
    if network is LOOPBACK:
        yield {host: list(addresses) for host in (*HOSTS, *clients)}
        return
    routes = [
        Route(source, target, host, int(port))
        for source in (*HOSTS, *clients)
        for target, (host, _, port) in zip(HOSTS, (each.rpartition(":") for each in addresses), strict=True)
        if source != target
    ]
    with relay_process(routes, network) as entries:
        entry = {(route.source, route.target): given for route, given in zip(routes, entries, strict=True)}
        yield {
            source: [entry.get((source, target), own) for target, own in zip(HOSTS, addresses, strict=True)]
            for source in (*HOSTS, *clients)
        }


@contextlib.contextmanager
def relay_process(routes: Sequence[Route], network: Network) -> Iterator[list[str]]:
    """Start a relay in a process of its own, which ends with the context.

    Returns the host:port at which the relay takes the connections of each route, in the order of routes.
    Raises PartyError if the relay does not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "ditto_spu.network.relay"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps({"routes": routes, "network": astuple(network)}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise PartyError(f"the relay ended with exit code {process.wait()}")
        yield json.loads(line)
    finally:
        process.stdin.close()  # the relay ends with its standard input, also if this process is killed
        process.wait()


def free_addresses(count: int) -> list[str]:
    """Return addresses host:port of this machine at which nobody listens at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses
