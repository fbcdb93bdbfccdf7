"""Compare what `bench.torch_reference.write` left with our own models, and print a row for each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import rich
from rich.table import Table

import ditto_spu as ditto
from bench.torch_reference import REFERENCE
from ditto_spu.generation.decoder import one_hot

LIMIT = 1e-3  # of an error, as a part of the largest output


def greedy(model: Any, ids: Any, steps: int) -> np.ndarray:
    """Continue one text [1, length] in plaintext, by prefill and steps over the cache."""
    import jax

    decoder, made = model.decoder, np.asarray(ids)
    step = jax.jit(decoder.step)
    logits, cache = decoder.prefill(
        model.params, one_hot(made, decoder.vocabulary), length=made.shape[1] + steps
    )
    for _ in range(steps):
        made = np.concatenate([made, np.argmax(logits, axis=-1)[:, None]], axis=1)
        logits, cache = step(
            model.params, cache, one_hot(made[:, -1:], decoder.vocabulary), made.shape[1] - 1
        )
    return made


def compare(folder: Path, reference: Any) -> tuple[float, float, str]:
    """Return (largest error, largest output, whether greedy tokens agree) at places that are no padding."""
    import jax

    model = ditto.load(folder)
    ids, mask = reference["ids"].astype(np.int32), reference["mask"].astype(np.int32)
    found = np.asarray(jax.jit(model.fn)(model.params, ids, mask))
    wanted = reference["outputs"]
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    if model.output in ("logits", "states", "spans"):
        words = mask.astype(bool)
        found, wanted = (
            each[:, words] if model.output == "spans" else each[words] for each in (found, wanted)
        )
    tokens = ""
    if "greedy" in reference:
        start = ids[:1]
        mine = greedy(model, start, reference["greedy"].shape[1] - start.shape[1])
        tokens = "same" if np.array_equal(mine, reference["greedy"]) else "DIFFERENT"
    return float(np.max(np.abs(found - wanted))), float(np.max(np.abs(wanted))), tokens


def main() -> None:
    """Compare all models, and fail if one differs."""
    out = Path(sys.argv[1])
    table = Table("model", "largest error", "largest output", "12 greedy tokens")
    wrong = []
    for reference in sorted((out / "references").glob(f"*/{REFERENCE}"), key=lambda each: str(each).lower()):
        name = reference.parent.name
        error, size, tokens = compare(out / name, np.load(reference))
        print(f"ours: {name}: {error:.1e} of {size:.3g} {tokens}", file=sys.stderr, flush=True)
        table.add_row(name, f"{error:.1e}", f"{size:.3g}", tokens)
        if not error <= LIMIT * size or tokens == "DIFFERENT":
            wrong.append(name)
    rich.print(table)
    if wrong:
        raise SystemExit(f"different from torch: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
