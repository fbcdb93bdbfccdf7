"""Starts three parties as processes of this machine, with throwaway identities and an emulated network."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ditto_kernels.values.replicated import PARTIES
from ditto_spu.cluster.client.client import ClusterClient, connect
from ditto_spu.cluster.commands import party
from ditto_spu.cluster.net.cluster_file import init_cluster, load_cluster
from ditto_spu.errors import PartyError
from ditto_spu.network.model import LOOPBACK, Network
from ditto_spu.network.process import HOSTS, emulated, free_addresses
from ditto_spu.runtime.blas_threads import shared_processors

_START = 60.0  # seconds until a party's process listens
# These timeouts are long, because a slow network takes its time and no party here is expected to fail.
_TIMEOUTS = "\n[timeouts]\nconnect = 60\nmessage = 900\nrequest = 3600\nidle = 86400\n"


@contextlib.contextmanager
def local_parties(
    network: Network = LOOPBACK, clients: Sequence[str] = ("client",)
) -> Iterator[LocalParties]:
    """Start three parties as processes that talk over TLS. They end with the context.

    network: is emulated between all parties and clients, each of which counts as a host of its own (see
        `network.relay`). On LOOPBACK they connect directly. The cluster file names it, so that clients make
        plans for it.
    clients: the names of the clients that may connect.

    Raises PartyError if a party does not start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ditto-parties-")))
        addresses = free_addresses(PARTIES)
        made = init_cluster(folder / "cluster", tuple(addresses), tuple(clients))
        made.write_text(f'network = "{network.spec}"\n{made.read_text()}{_TIMEOUTS}')
        reached = stack.enter_context(emulated(network, addresses, clients))
        parties = LocalParties({name: _as_reached(made, name, reached[name]) for name in reached})
        stack.callback(parties.stop)
        parties.wait_until_listening()
        yield parties


class LocalParties:
    """Holds the parties that `local_parties` starts, connects clients, and reads measurements."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._logs = [files[name].parent / f"{name}.log" for name in HOSTS]
        self._processes = [
            _start(rank, files[name], log)
            for rank, (name, log) in enumerate(zip(HOSTS, self._logs, strict=True))
        ]

    def connect(self, client: str = "client") -> ClusterClient:
        """Return a client of these parties. It has its own link to the emulated network."""
        return connect(self._files[client], client)

    def wait_until_listening(self) -> None:
        """Wait until all parties listen. Raises PartyError if one ends or does not listen within a minute."""
        deadline = time.monotonic() + _START
        for rank in range(PARTIES):
            while not self._events(rank, "listening"):
                if self._processes[rank].poll() is not None or time.monotonic() > deadline:
                    last = self._logs[rank].read_text(errors="replace").strip().splitlines()[-1:]
                    raise PartyError(f"the process of party {rank} does not listen: {' '.join(last)}")
                time.sleep(0.05)

    def seconds(self) -> float:
        """Return the seconds that the last request took at the slowest party.

        They count from the first step until the party holds its shares of the outputs.
        """
        return max(float(str(self._events(rank, "request")[-1]["seconds"])) for rank in range(PARTIES))

    def peak_memory_bytes(self) -> int:
        """Return the sum of the three processes' peak memory so far, in bytes."""
        return sum(_peak(process.pid) for process in self._processes)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.communicate()

    def _events(self, rank: int, event: str) -> list[dict[str, object]]:
        lines = self._logs[rank].read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [each for each in found if each["event"] == event]


def _start(rank: int, file: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ditto_spu.cluster.local_parties", str(rank), str(file)]
    with log.open("wb") as errors:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)


def _as_reached(made: Path, name: str, addresses: Sequence[str]) -> Path:
    """Write a cluster file for one participant, which reaches the parties at the given addresses."""
    text = made.read_text()
    for (host, port), address in zip(load_cluster(made).addresses, addresses, strict=True):
        line = f'address = "{host}:{port}"'
        if address != f"{host}:{port}":
            text = text.replace(line, f'{line}\nvia = "{address}"')
    file = made.parent / f"{name}.toml"
    file.write_text(text)
    return file


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _main(rank: int, file: Path) -> None:
    """Run a party that also ends when its standard input ends, so it does not outlive a killed starter."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    with shared_processors():
        party(rank, file, grace=1.0)


if __name__ == "__main__":
    _main(int(sys.argv[1]), Path(sys.argv[2]))
