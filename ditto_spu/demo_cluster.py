"""`make demo-cluster`: three parties as processes, an owner of weights and an owner of data, over TLS."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from ditto_spu.api import secure
from ditto_spu.cluster.client import connect
from ditto_spu.cluster.config import init_cluster
from ditto_spu.errors import DittoError
from ditto_spu.models import named_model

MODEL = "bert-base-layer"
_REQUESTS = 3
_START = 30.0  # seconds that a party's process gets to start listening


def main() -> None:
    """Start the parties, upload a BERT layer's weights as one client, run it as another, compare."""
    console = Console()
    logging.getLogger("ditto_spu.cluster").setLevel(logging.ERROR)  # retries while the parties start
    with tempfile.TemporaryDirectory(prefix="ditto-cluster-") as folder:
        file = init_cluster(Path(folder) / "cluster", _free_addresses(), ("model-owner", "data-owner"))
        text = file.read_text() + f"\n[timeouts]\nconnect = {_START:g}\n"
        file.write_text(text)
        command = [sys.executable, "-m", "ditto_spu.cli", "party", "--grace", "1", "--cluster", str(file)]
        parties = [
            subprocess.Popen([*command, "--rank", str(rank)], stderr=subprocess.DEVNULL) for rank in range(3)
        ]
        try:
            console.print(
                "Three parties run as processes of this machine, over TLS with pinned certificates."
            )
            _show(console, file)
        except DittoError as error:
            console.print(f"[red]{error}")
            raise SystemExit(2) from None
        finally:
            for party in parties:
                party.terminate()
            for party in parties:
                party.wait()


def _show(console: Console, file: Path) -> None:
    program = named_model(MODEL).build()
    params, hidden = program.args
    function = secure(program.fn, public=program.public, owner=program.owner)
    expected = np.asarray(jax.jit(program.fn)(params, hidden))
    with connect(file, "model-owner") as owner:
        started = time.perf_counter()
        owner.upload(function.hold(params=params), hidden, name=MODEL, users=["data-owner"])
    console.print(f"model-owner has shared the weights of {MODEL} in {time.perf_counter() - started:.1f} s.")
    shapes = jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    with connect(file, "data-owner") as user:
        for _ in range(_REQUESTS):
            started = time.perf_counter()
            result = user.run(function.hold(params=shapes), hidden, weights=MODEL)
            error = float(np.abs(np.asarray(result.outputs) - expected).max())
            sent = max(result.report.bytes_sent_per_party) / 1e6
            console.print(
                f"data-owner's request: {time.perf_counter() - started:.2f} s, {sent:.1f} MB sent a party, "
                f"largest error {error:.4f}"
            )


def _free_addresses() -> tuple[str, ...]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return addresses


if __name__ == "__main__":
    main()
