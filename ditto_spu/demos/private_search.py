"""Run a private search with all-MiniLM-L6-v2 among three simulated parties, beside plaintext and PUMA."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ditto_spu.api import secure
from ditto_spu.compare.table import PLAINTEXT, PUMA, Comparison, ComparisonRow, accuracy
from ditto_spu.errors import DittoError
from ditto_spu.models import minilm
from ditto_spu.models.sentences import QUERY, SENTENCES

CONFIGS = {
    "ditto": "",
    "ditto-paper": "; needs distillation (Quad GeLU)",
}


def main() -> None:
    """Embed a query and ten sentences in every way, then print the rankings and one table."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    texts = [QUERY, *SENTENCES]
    console.print(
        f"[bold]Private search.[/] A query, {len(SENTENCES)} sentences and the weights of all-MiniLM-L6-v2 "
        "are secret-shared among three parties, none of which learns any of them. "
        "Only the lengths of the sentences are public."
    )
    with _progress(console) as stage:
        with stage("loading the model"):
            module, params = minilm.load()
            ids, mask = minilm.tokenise(texts)
        embed = minilm.embedder(module)
        with stage(f"plaintext, {len(texts)} sentences"):
            expected, row = _plaintext(embed, params, ids, mask)
        rows, embeddings = [row], {}
        for name, note in CONFIGS.items():
            with stage(f"{name}, {len(texts)} sentences under MPC") as show:
                # The table shows the error beside plaintext, so a configuration that does not fit may run.
                function = secure(embed, config=name, public=("mask",), check=False)
                result = function.run(params, ids, mask, progress=show)
            embeddings[name] = np.asarray(result.outputs)
            rows.append(_row(name, result.report, embeddings[name], expected, note))
        with stage("PUMA on stock SPU, one sentence"):
            rows.append(_puma(embed, (params, ids[:1], mask[:1]), ("mask",)))
        with stage("PUMA on stock SPU, the embedding look-up alone"):
            table = params["embeddings"]["word_embeddings"]["embedding"]
            part = _puma(lambda table, ids: jnp.take(table, ids, axis=0), (table, ids[:1]), ())
            rows.append(
                replace(part, config="embedding alone", part_of=PUMA, cosine=None, max_abs_error=None)
            )
    console.print(_ranking(expected, embeddings["ditto"]))
    console.print(Comparison(tuple(rows), item="sentence"))


def _plaintext(embed: Any, params: Any, ids: Any, mask: Any) -> tuple[NDArray[Any], ComparisonRow]:
    compiled = jax.jit(embed)
    expected = np.asarray(compiled(params, ids, mask))  # the first call compiles
    start = time.perf_counter()
    compiled(params, ids, mask).block_until_ready()
    seconds = time.perf_counter() - start
    return expected, ComparisonRow(
        config=PLAINTEXT, seconds=seconds, items=len(ids), note=f"{len(ids)} sentences"
    )


def _row(name: str, report: Any, embeddings: Any, expected: Any, note: str) -> ComparisonRow:
    return ComparisonRow(
        config=name,
        seconds=report.seconds,
        items=len(expected),
        bytes_sent_per_party=report.bytes_sent_per_party,
        offline_bytes_sent_per_party=report.offline_bytes_sent_per_party,
        messages_per_party=report.messages_per_party,
        rounds=report.rounds,
        note=f"{len(expected)} sentences{note}",
        **accuracy([embeddings], [expected]),
    )


def _puma(fn: Any, args: tuple[Any, ...], public: tuple[str, ...]) -> ComparisonRow:
    row = secure(fn, public=public).compare(*args, configs=(), puma=True).row(PUMA)
    return replace(row, note="one sentence")


def _ranking(expected: NDArray[Any], secret: NDArray[Any]) -> Table:
    """Return a table of the sentences by their similarity to the query.

    Each has the place and score that it had in plaintext beside it.
    """
    plain_scores, scores = (vectors[1:] @ vectors[0] for vectors in (expected, secret))
    plain_place = np.argsort(np.argsort(-plain_scores))
    table = Table("MPC", "plaintext", "score, MPC", "score, plaintext", QUERY)
    for place, index in enumerate(np.argsort(-scores)):
        table.add_row(
            str(place + 1),
            str(plain_place[index] + 1),
            f"{scores[index]:.4f}",
            f"{plain_scores[index]:.4f}",
            SENTENCES[index],
        )
    return table


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    """Yield `stage(title)`, a context that shows its elapsed time and the steps reported to it."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:

        @contextmanager
        def stage(title: str) -> Iterator[Any]:
            task = progress.add_task(title, total=None)
            yield lambda done, steps: progress.update(task, completed=done, total=steps)
            progress.update(task, completed=1, total=1)

        yield stage


if __name__ == "__main__":
    try:
        main()
    except DittoError as error:
        sys.exit(f"ditto: {error}")
