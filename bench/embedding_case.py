"""Measure look-ups of 32 rows of BERT-base's table on three sides (`--case embedding`).

A client's own ids become one-hot rows at the client. Secret ids are looked up by point functions. PUMA
compares ids under shares to get one-hot vectors, which it multiplies by the table on stock SPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ditto_spu import secure
from ditto_spu.compare.puma import run_puma

ROWS, WIDTH, TOKENS = 30522, 768, 32
OWNER = {"table": "server", "ids": "client"}


def embedding_rows(config: str, repeat: int, say: Callable[[str], None], small: bool) -> list[dict[str, Any]]:
    """Return one row per side. The sides take turns."""
    rows, width, tokens = (50, 16, 4) if small else (ROWS, WIDTH, TOKENS)
    rng = np.random.default_rng(0)
    table = (0.02 * rng.standard_normal((rows, width))).astype(np.float32)
    ids = rng.integers(0, rows, (1, tokens)).astype(np.int32)

    def embedding(table: Any, ids: Any) -> Any:
        return jnp.take(table, ids, axis=0)

    own = secure(embedding, config=config, owner=OWNER, check=False).hold(table=table)
    hidden = secure(embedding, config=config, check=False).hold(table=table)
    sides: dict[str, Callable[[], Any]] = {
        "own ids, one-hot": lambda: own.run(ids),
        "secret ids, look-up": lambda: hidden.run(ids),
        "PUMA, one-hot": lambda: run_puma(embedding, (table, ids)),
    }
    uploads = {
        "own ids, one-hot": sum(
            each.upload_bytes for each in own.lower(ids).ownership().shares if each.owner == "client"
        ),
        "secret ids, look-up": 6 * 8 * ids.size,
        "PUMA, one-hot": 6 * 8 * ids.size,
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results: dict[str, Any] = {}
    for run in (own.run, hidden.run):
        run(ids)  # compiles, and shares the table
    for turn in range(repeat):
        for name, run_side in sides.items():
            started = time.perf_counter()
            results[name] = run_side()
            whole = time.perf_counter() - started
            # PUMA shares the table anew in every run, but its own clock leaves this out.
            seconds[name].append(results[name].seconds if name.startswith("PUMA") else whole)
            say(f"embedding: {name}, run {turn + 1} of {repeat}: {seconds[name][-1]:.3f} s")
    found = []
    for name, result in results.items():
        sent = getattr(result, "report", result).bytes_sent_per_party
        found.append(
            {
                "case": "embedding",
                "config": config,
                "side": name,
                "seconds": statistics.median(seconds[name]),
                "bytes_sent_per_party": sent,
                "upload_bytes": uploads[name],
                "max_abs_error": float(np.max(np.abs(np.asarray(result.outputs) - table[ids]))),
            }
        )
    return found


def embedding_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return one line per row."""
    lines = []
    for row in rows:
        sent, upload = sum(row["bytes_sent_per_party"]) / 3e6, row["upload_bytes"] / 1e6
        lines.append(
            f"embedding: {row['side']:<20} {row['seconds']:7.3f} s  {sent:8.2f} MB a party, "
            f"{upload:.3f} MB from the client, max error {row['max_abs_error']:.5f}"
        )
    return lines
