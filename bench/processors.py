"""Run a model among parties whose processors compute differently.

`python -m bench.processors` makes BLAS, XLA and numpy of each party use the instructions of another kind of
processor. For every ordered pair of kinds, party 1 has one and the two others have the other. It prints
whether the parties refused each other, or else whether their outputs were right.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ditto_spu import connect, secure
from ditto_spu.cluster.net.cluster_file import init_cluster
from ditto_spu.errors import PartyError
from ditto_spu.network.process import free_addresses

_XLA = "--xla_cpu_max_isa="
KINDS: dict[str, dict[str, str]] = {
    "this one": {},
    "Haswell": {"OPENBLAS_CORETYPE": "Haswell", "XLA_FLAGS": _XLA + "AVX2"},
    "Sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge", "XLA_FLAGS": _XLA + "AVX"},
    "Prescott": {"OPENBLAS_CORETYPE": "Prescott", "XLA_FLAGS": _XLA + "SSE4_2"},
    "old numpy": {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"},
}
TOLERANCE = 0.02


def formula(w: Any, x: Any, scale: Any) -> Any:
    """Compute what depends on fitted coefficients and on public values."""
    hidden = jax.nn.gelu(x @ w * jnp.exp(scale))
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / jnp.sqrt(hidden.var(-1, keepdims=True) + 0.1)
    return jax.nn.softmax(hidden)


model = secure(formula, public=("scale",))


@contextlib.contextmanager
def parties(file: Path, ranks: tuple[int, ...], kind: Mapping[str, str]) -> Iterator[None]:
    """Start parties, with variables of their environment that choose their instructions."""
    command = [sys.executable, "-m", "ditto_spu.cli", "party", "--grace", "1", "--cluster", str(file)]
    running = [
        subprocess.Popen(
            [*command, "--rank", str(rank)], stderr=subprocess.DEVNULL, env=os.environ | dict(kind)
        )
        for rank in ranks
    ]
    try:
        yield
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait()


def outcome(file: Path) -> str:
    """Run the model once. Returns "right", "wrong", or why the parties refuse each other."""
    rng = np.random.default_rng(0)
    arguments = [rng.normal(size=size).astype(np.float32) for size in ((6, 64), (8, 6), (8, 64))]
    try:
        with connect(file, "client") as client:
            outputs = client.run(model, *arguments).outputs
    except PartyError as error:
        reasons = ("arithmetic", "have computed different public values")
        found = [reason for reason in reasons if reason in str(error)]
        return f"refused: {found[0]}" if found else f"failed: {error}"
    plain = np.asarray(formula(*arguments))
    return "right" if np.abs(outputs - plain).max() < TOLERANCE else "wrong"


def pairs() -> Iterator[tuple[str, str, str]]:
    """Yield (kind of parties 0 and 2, kind of party 1, outcome) for every ordered pair of kinds."""
    with tempfile.TemporaryDirectory(prefix="ditto-processors-") as folder:
        file = init_cluster(Path(folder) / "cluster", tuple(free_addresses(3)), ("client",))
        file.write_text(file.read_text() + "\n[timeouts]\nconnect = 60\n")
        for first, group in itertools.groupby(itertools.permutations(KINDS, 2), key=lambda pair: pair[0]):
            with parties(file, (0, 2), KINDS[first]):
                for _, second in group:
                    with parties(file, (1,), KINDS[second]):
                        yield first, second, outcome(file)


def main() -> None:
    """Print the outcome of every pair, and how often there was each."""
    logging.getLogger("ditto_spu.cluster").setLevel(logging.ERROR)
    count: Counter[str] = Counter()
    for first, second, found in pairs():
        print(f"parties 0 and 2: {first}, party 1: {second}: {found}", flush=True)
        count[found] += 1
    print(*(f"{number} {found}" for found, number in count.items()), sep=", ")


if __name__ == "__main__":
    main()
