"""`--case formats`: error against fraction bits, one format everywhere, by emulation (no parties)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from ditto_spu import secure
from ditto_spu.compare.table import accuracy
from ditto_spu.models import Program, named_model

MODEL = "bert-base-layer"
FRACTION_BITS = tuple(range(6, 23, 2))


def format_rows(
    say: Callable[[str], None], program: Program | None = None, bits: Sequence[int] = FRACTION_BITS
) -> list[dict[str, Any]]:
    """One row a format: what rounding every value to it costs, apart from approximations and truncation."""
    program = named_model(MODEL).build() if program is None else program
    leaves = jax.tree_util.tree_leaves
    expected = leaves(jax.jit(program.fn)(*program.args))
    rows: list[dict[str, Any]] = []
    for fraction_bits in bits:
        name = f"fxp64.{fraction_bits}"
        say(f"formats: {name}")
        lowered = secure(program.fn, config={"default": name}, **program.options).lower(*program.args)
        figures = accuracy(lowered.emulate(leaves(program.args)), expected)
        rows.append({"case": "formats", "config": name, "fraction_bits": fraction_bits, **figures})
    return rows


def format_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows for a terminal."""
    return [
        f"{row['config']:>9}  max error {row['max_abs_error']:.6f}  mean error {row['mean_abs_error']:.6f}"
        for row in rows
    ]
