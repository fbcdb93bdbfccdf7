"""Run `make demo-cluster`: three parties as processes over TLS, with two clients.

One client owns the weights and the other owns the data.
"""

from __future__ import annotations

import time

import jax
import numpy as np
from rich.console import Console

from ditto_spu.api import secure
from ditto_spu.cluster.local_parties import LocalParties, local_parties
from ditto_spu.errors import DittoError
from ditto_spu.models import named_model

MODEL = "bert-base-layer"
_REQUESTS = 3


def main() -> None:
    """Start the parties, upload a BERT layer's weights as one client, run it as the other, and compare."""
    console = Console()
    try:
        with local_parties(clients=("model-owner", "data-owner")) as parties:
            console.print(
                "Three parties run as processes of this machine, over TLS with pinned certificates."
            )
            _show(console, parties)
    except DittoError as error:
        console.print(f"[red]{error}")
        raise SystemExit(2) from None


def _show(console: Console, parties: LocalParties) -> None:
    program = named_model(MODEL).build()
    params, hidden = program.args
    function = secure(program.fn, **program.options)
    expected = np.asarray(jax.jit(program.fn)(params, hidden))
    with parties.connect("model-owner") as owner:
        started = time.perf_counter()
        owner.upload(function.hold(params=params), hidden, name=MODEL, users=["data-owner"])
    console.print(f"model-owner has shared the weights of {MODEL} in {time.perf_counter() - started:.1f} s.")
    shapes = jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    with parties.connect("data-owner") as user:
        for _ in range(_REQUESTS):
            started = time.perf_counter()
            result = user.run(function.hold(params=shapes), hidden, weights=f"model-owner/{MODEL}")
            error = float(np.abs(np.asarray(result.outputs) - expected).max())
            sent = max(result.report.bytes_sent_per_party) / 1e6
            console.print(
                f"data-owner's request: {time.perf_counter() - started:.2f} s, {sent:.1f} MB sent a party, "
                f"largest error {error:.4f}"
            )


if __name__ == "__main__":
    main()
