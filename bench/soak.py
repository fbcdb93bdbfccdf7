"""Send many requests of a small model from several clients to three party processes.

`python -m bench.soak` prints each party's resident memory after a warm-up and at the end, and whether every
answer was right.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from ditto_spu import connect, secure
from ditto_spu.cluster.net.cluster_file import init_cluster

FEATURES, HIDDEN, CLASSES, ROWS = 64, 128, 10, 16
TOLERANCE = 0.02


@dataclass(frozen=True)
class Figures:
    """The figures of a run.

    right: the number of answers within the tolerance.
    memory: bytes of each party after the warm-up, and at the end.
    """

    right: int
    requests: int
    seconds: float
    memory: list[tuple[int, int]]

    @property
    def growth(self) -> float:
        """Return the largest growth of any party's memory, as a fraction."""
        return max(after / before - 1 for before, after in self.memory)

    def __str__(self) -> str:
        lines = [f"{self.right} of {self.requests} answers right, {self.seconds:.1f} s"]
        for rank, (before, after) in enumerate(self.memory):
            change = after / before - 1
            lines.append(
                f"party {rank}: {before / 1e6:.1f} MB after the warm-up, {after / 1e6:.1f} MB at the end "
                f"({change:+.2%})"
            )
        return "\n".join(lines)


def classify(params, x):
    """Apply two dense layers with GeLU and softmax."""
    hidden = jax.nn.gelu(x @ params["in"])
    return jax.nn.softmax(hidden @ params["out"])


def soak(
    file: Path, pids: list[int], clients: list[str], requests: int, warm_up: int, masked: bool
) -> Figures:
    """Send `requests` requests in all, divided among the clients.

    `warm_up` more requests run before the first reading of the memory.
    """
    rng = np.random.default_rng(0)
    params = {
        "in": rng.normal(0, 0.1, (FEATURES, HIDDEN)).astype(np.float32),
        "out": rng.normal(0, 0.1, (HIDDEN, CLASSES)).astype(np.float32),
    }
    plain, rights = jax.jit(classify), []

    def work(number: int, count: int) -> None:
        mine = np.random.default_rng(number)
        function = secure(classify, masked=masked).hold(params=params)
        with connect(file, clients[number]) as client:
            for _ in range(count):
                x = mine.normal(0, 1, (ROWS, FEATURES)).astype(np.float32)
                outputs = client.run(function, x).outputs
                rights.append(float(np.abs(outputs - np.asarray(plain(params, x))).max()) < TOLERANCE)

    def together(count: int) -> None:
        threads = [
            threading.Thread(target=work, args=(n, count // len(clients))) for n in range(len(clients))
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    together(warm_up)
    before, started = [resident(pid) for pid in pids], time.perf_counter()
    rights.clear()
    together(requests)
    seconds = time.perf_counter() - started
    after = [resident(pid) for pid in pids]
    return Figures(sum(rights), requests, seconds, list(zip(before, after, strict=True)))


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextlib.contextmanager
def party_processes(
    clients: Sequence[str], settings: str = "\n[timeouts]\nconnect = 60\n[limits]\nsessions = 16\n"
) -> Iterator[tuple[Path, list[int]]]:
    """Start three parties on this machine, and yield the cluster file and their process ids.

    settings: what the cluster file says about timeouts and limits.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    with tempfile.TemporaryDirectory(prefix="ditto-soak-") as folder:
        file = init_cluster(Path(folder) / "cluster", addresses, tuple(clients))
        file.write_text(file.read_text() + settings)
        command = [sys.executable, "-m", "ditto_spu.cli", "party", "--grace", "1", "--cluster", str(file)]
        parties = [
            subprocess.Popen([*command, "--rank", str(rank)], stderr=subprocess.DEVNULL) for rank in range(3)
        ]
        try:
            yield file, [each.pid for each in parties]
        finally:
            for each in parties:
                each.terminate()
            for each in parties:
                each.wait()


def main() -> None:
    """Start the parties, send the requests and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--warm-up", type=int, default=80)
    parser.add_argument("--masked", action="store_true")
    options = parser.parse_args()
    # This hides attempts to connect while the parties start.
    logging.getLogger("ditto_spu.cluster").setLevel(logging.ERROR)
    names = [f"client-{number}" for number in range(options.clients)]
    with party_processes(names) as (file, pids):
        print(soak(file, pids, names, options.requests, options.warm_up, options.masked))


if __name__ == "__main__":
    main()
