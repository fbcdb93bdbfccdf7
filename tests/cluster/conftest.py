"""Provides clusters for tests, with real sockets and TLS.

The three parties are threads of this process, or processes.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ditto_spu import connect
from ditto_spu.cluster.client.client import ClusterClient
from ditto_spu.cluster.net.certificates import Authority, create_authority
from ditto_spu.cluster.net.cluster_file import init_cluster, load_cluster
from ditto_spu.cluster.party.plan_checker import PlanChecker
from ditto_spu.cluster.party.server import PartyServer

TIMEOUTS = "\n[timeouts]\nconnect = 5\nmessage = 5\nrequest = 60\nidle = 60\n"


class Trial:
    """Holds a cluster's folder, and those of its parties that run."""

    def __init__(self, folder: Path, extra: str = TIMEOUTS, addresses: tuple[str, ...] = ()) -> None:
        self.authority: Authority = create_authority("test")
        addresses = addresses or tuple(f"127.0.0.1:{port}" for port in free_ports(3))
        self.file = init_cluster(folder, addresses, ("alice", "bob"), self.authority)
        self.file.write_text(self.file.read_text() + extra)
        self.folder = folder
        self.servers: list[PartyServer] = []
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.before: dict[int, list[str]] = {}  # by rank, words to put before the party's command

    def serve(self) -> None:
        """Start all three parties in this process."""
        for rank in range(3):
            self.servers.append(PartyServer(load_cluster(self.file), rank, checker=plan_checker()))
            self.servers[-1].start()

    def start(self, *ranks: int, grace: float = 1.0) -> None:
        """Start parties as processes, and return when they listen."""
        for rank in ranks:
            command = [
                sys.executable,
                "-m",
                "ditto_spu.cli",
                "party",
                "--rank",
                str(rank),
                "--grace",
                str(grace),
            ]
            log = open(self.log(rank), "wb")  # noqa: SIM115  the process keeps it
            self.processes[rank] = subprocess.Popen(
                [*self.before.get(rank, ()), *command, "--cluster", str(self.file)], stderr=log
            )
            log.close()
        for rank in ranks:
            self.wait_for(rank, "listening")

    def log(self, rank: int) -> Path:
        return self.folder / f"party{rank}.log"

    def events(self, rank: int) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log(rank).read_text().splitlines() if line.startswith("{")]

    def wait_for(self, rank: int, event: str, count: int = 1) -> None:
        deadline = time.monotonic() + 120  # long, as the machine may be busy
        while sum(each["event"] == event for each in self.events(rank)) < count:
            assert self.processes[rank].poll() is None, self.log(rank).read_text()
            assert time.monotonic() < deadline, f"party {rank} never logs '{event}'"
            time.sleep(0.05)

    def signal(self, rank: int, number: int) -> None:
        os.kill(self.processes[rank].pid, number)
        if number == signal.SIGKILL:
            self.processes.pop(rank).wait()

    def stop(self) -> None:
        for server in self.servers:
            server.stop(0)
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@functools.lru_cache(maxsize=1)
def plan_checker() -> PlanChecker:
    """Return the checker that all parties of this process share, because its start takes seconds."""
    made = PlanChecker()
    atexit.register(made.close)
    return made


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    """Return a new cluster for one test. No party runs yet."""
    made = Trial(tmp_path / "cluster")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """Start three parties in this process, for all tests of a file."""
    made = Trial(tmp_path_factory.mktemp("parties") / "cluster")
    made.serve()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def alice(parties: Trial) -> Iterator[ClusterClient]:
    """Connect Alice to the parties of a file."""
    with connect(parties.file, "alice") as client:
        yield client


@pytest.fixture(scope="module")
def bob(parties: Trial) -> Iterator[ClusterClient]:
    """Connect Bob to the parties of a file."""
    with connect(parties.file, "bob") as client:
        yield client


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits until a condition holds, for at most 60 s."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60  # long, as the machine may be busy
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return wait


@pytest.fixture
def new_trial() -> Callable[[Path, tuple[str, ...]], Trial]:
    """Return a function that makes a cluster at given addresses."""
    return lambda folder, addresses: Trial(folder, addresses=addresses)
